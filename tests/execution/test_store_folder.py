"""The folder of a store: whose it is, killed processes, what is cleared and what stays."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stored
from stored import Output, entries, leftovers, make

from edgepack.base import files
from edgepack.errors import ConfigError, StorageError
from edgepack.execution import store
from edgepack.execution.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("where", [".", "stage"])
def test_a_store_that_others_may_write_is_refused(kept: Store, where: str) -> None:
    kept.run("stage", 1, {}, Output, make())
    folder = kept.folder / where
    for mode in (0o775, 0o757):
        folder.chmod(mode)
        with pytest.raises(StorageError, match="other users can write to") as caught:
            kept.run("stage", 1, {}, Output, make())
        assert "go-w" in str(caught.value.hint)
    folder.chmod(0o755)
    assert kept.run("stage", 1, {}, Output, make()).number == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_store_of_another_user_is_refused(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.run("stage", 1, {}, Output, make())
    os.chown(kept.folder, 12345, -1)
    with pytest.raises(StorageError, match="belongs to another user"):
        kept.run("stage", 1, {}, Output, make())
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    os.chown(kept.folder / "stage", 12345, -1)
    assert kept.run("stage", 1, {}, Output, make()).number == 7


def test_a_store_is_the_users_own_whatever_the_umask(kept: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    old = os.umask(0)
    try:
        os.utime(path, ns=(1, 1))
        kept.sha256(path)
        kept.save()
        kept.run("stage", 1, {}, Output, make())
    finally:
        os.umask(old)
    for folder in (kept.folder, kept.folder / "stage"):
        assert folder.stat().st_mode & 0o022 == 0


class Hesitant(Store):
    """A store that waits a moment when it finds no entry, so that another one's appears meanwhile."""

    def _read(self, folder: Path, kind: Any) -> Any:
        found = super()._read(folder, kind)
        if found is None:
            time.sleep(MOMENTS.random() * 0.003)
        return found


MOMENTS = random.Random(20261126)


def test_two_builds_of_one_entry_end_with_one_that_both_can_read(kept: Store) -> None:
    """Many times, as the moment counts: the second must not take what the first just made for a damaged entry."""
    times = 60
    both = threading.Barrier(2, timeout=10)
    outputs: dict[str, list[Output]] = {"one!": [], "two!": []}

    def build(text: str) -> None:
        def function(out: Path) -> Output:
            output = make(text)(out)
            both.wait()
            return output

        for n in range(times):
            outputs[text].append(Hesitant(kept.folder).run("stage", 1, {"n": n}, Output, function))

    threads = [threading.Thread(target=build, args=(text,)) for text in outputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs["one!"] == outputs["two!"]
    assert {output.path.read_text() for output in outputs["one!"]} <= {"one!", "two!"}
    assert len(entries(kept.folder)) == times
    assert leftovers(kept.folder) == []


def test_a_build_does_not_replace_what_another_made_meanwhile(kept: Store) -> None:
    def slow(out: Path) -> Output:
        Store(kept.folder).run("stage", 1, {}, Output, make("fast"))
        inode.append(entries(kept.folder)[0].stat().st_ino)
        return make("slow")(out)

    inode: list[int] = []
    assert kept.run("stage", 1, {}, Output, slow).path.read_text() == "fast"
    assert entries(kept.folder)[0].stat().st_ino == inode[0]


WORKER = """
import random, sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])
from stored import Output
from edgepack.execution.store import Store

def function(out):
    (out / "deep").mkdir()
    for n in range(20):
        (out / "deep" / f"{n}.bin").write_bytes(bytes([n]) * 20_000)
    (out / "model.bin").write_bytes(b"m" * 300_000)
    return Output(out / "model.bin", 1, tuple(out / "deep" / f"{n}.bin" for n in range(20)))

store = Store(Path(sys.argv[1]))
print("begin", flush=True)
for n in range(int(sys.argv[2]), 1000):
    store.run("stage", 1, {"n": n % 40}, Output, function)
    print("done", flush=True)
"""


def start_worker(folder: Path, first: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(folder), str(first), str(Path(stored.__file__).parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def check_entries(folder: Path) -> int:
    """Check that every entry under a final name is whole; return how many there are."""
    finals = [path for path in folder.glob("stage/*") if not path.name.startswith(".")]
    for final in finals:
        document = json.loads((final / "_value.json").read_bytes())
        assert len(document["files"]) == 21
        for name, (size, digest) in document["files"].items():
            assert (final / name).stat().st_size == size
            assert files.sha256_file(final / name) == digest
    return len(finals)


def test_killing_at_any_moment_leaves_no_half_entry(kept: Store) -> None:
    """A real process is killed 25 times at random moments of its work; the seed chooses the moments."""
    moments = random.Random(20261121)
    counts = []
    for turn in range(25):
        process = start_worker(kept.folder, turn)
        assert process.stdout is not None
        for _ in range(moments.randint(1, 3)):
            process.stdout.readline()
        time.sleep(moments.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(check_entries(kept.folder))
    assert counts == sorted(counts)
    assert counts[-1] >= 5
    output = kept.run("stage", 1, {"n": 0}, Output, lambda _: pytest.fail("the next build must go on from it"))
    assert output.path.read_bytes() == b"m" * 300_000


def test_two_processes_may_fill_one_store(kept: Store) -> None:
    workers = [start_worker(kept.folder, 0) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        for _ in range(30):
            worker.stdout.readline()
        assert worker.poll() is None, "a worker died of the other one"
    for worker in workers:
        worker.kill()
        worker.communicate()
    assert check_entries(kept.folder) >= 20


def test_what_killed_processes_left_is_swept(kept: Store) -> None:
    kept.run("stage", 1, {}, Output, make())
    old, new = kept.folder / "stage" / ".dead.x", kept.folder / "stage" / ".just-made.y"
    for folder in (old, new):
        folder.mkdir()
        (folder / "half").write_text("half")
    os.utime(old, (1, 1))
    kept.run("stage", 1, {"other": 1}, Output, make())
    assert not old.exists()
    assert new.exists()


def test_the_folder_of_a_living_process_is_not_swept(kept: Store) -> None:
    def function(out: Path) -> Output:
        os.utime(out, (1, 1))
        Store(kept.folder).run("stage", 1, {"inner": 1}, Output, make())
        return make()(out)

    assert kept.run("stage", 1, {}, Output, function).path.read_text() == "data"


def test_the_size_is_that_of_all_files_and_clearing_empties_it(kept: Store) -> None:
    assert kept.size_bytes() == 0
    kept.run("stage", 1, {}, Output, make())
    assert kept.size_bytes() == sum(p.stat().st_size for p in kept.folder.rglob("*") if p.is_file()) > 1000
    kept.clear()
    kept.clear()
    assert kept.size_bytes() == 0
    kept.run("stage", 1, {}, Output, make())
    assert len(kept.ran) == 2


def foreign_folder(folder: Path) -> Path:
    """A folder that a user may point at by mistake."""
    (folder / "papers" / "drafts").mkdir(parents=True)
    (folder / "papers" / "thesis.txt").write_text("years of work")
    return folder


@pytest.mark.parametrize("call", [Store.clear, Store.size_bytes, lambda s: s.run("stage", 1, {}, Output, make())])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    tmp_path: Path, call: Callable[[Store], object]
) -> None:
    folder = foreign_folder(tmp_path / "home")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigError, match="is not a store of edgepack: it holds 'papers'"):
        call(Store(folder))
    assert sorted(folder.rglob("*")) == before


def test_digests_are_not_saved_into_a_folder_of_somebody_else(tmp_path: Path) -> None:
    opened = Store(foreign_folder(tmp_path / "home"))
    old = tmp_path / "old"
    old.write_text("old")
    os.utime(old, (1, 1))
    opened._inputs.changed = True
    with pytest.raises(ConfigError):
        opened.save()


def test_clearing_leaves_what_others_put_into_a_store(kept: Store) -> None:
    kept.run("stage", 1, {}, Output, make())
    foreign_folder(kept.folder)
    (kept.folder / "stage" / "notes.txt").write_text("mine")
    outside = kept.folder.parent / "outside"
    foreign_folder(outside)
    (kept.folder / "stage" / ("0" * 32)).symlink_to(outside)
    (kept.folder / "linked").symlink_to(outside)
    kept.clear()
    left = {path.relative_to(kept.folder).as_posix() for path in kept.folder.rglob("*") if path.is_file()}
    assert left == {".edgepack", "papers/thesis.txt", "stage/notes.txt"}
    assert (outside / "papers" / "thesis.txt").exists()


def test_a_store_of_an_older_version_has_no_marker_and_is_known(kept: Store) -> None:
    kept.run("stage", 1, {}, Output, make())
    (kept.folder / "logs").mkdir()
    (kept.folder / "logs" / "stage-01234567.log").write_text("log")
    (kept.folder / ".edgepack").unlink()
    again = Store(kept.folder)
    again.run("stage", 1, {"other": 1}, Output, make())
    assert (kept.folder / ".edgepack").exists()
    again.clear()
    assert not kept.folder.exists()


def test_entries_keep_to_the_users_umask(tmp_path: Path) -> None:
    for mask, mode in ((0o077, 0o700), (0o022, 0o755)):
        before = os.umask(mask)
        try:
            kept = Store(tmp_path / str(mask))
            entry = kept.run("stage", 1, {}, Output, make()).path.parent
        finally:
            os.umask(before)
        assert entry.stat().st_mode & 0o777 == mode
        assert (entry / "_value.json").stat().st_mode & 0o777 == mode & 0o644


def test_a_folder_that_is_marked_for_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / ".edgepack").write_text("an installation of edgepack\n")
    with pytest.raises(ConfigError, match="marked as an installation of edgepack"):
        Store(tmp_path).clear()


def test_the_default_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEPACK_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.default_folder() == tmp_path / "edgepack" / "store"
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "mine"))
    assert store.default_folder() == tmp_path / "mine"
    monkeypatch.delenv("EDGEPACK_STORE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store.default_folder() == tmp_path / "home" / ".cache" / "edgepack" / "store"
