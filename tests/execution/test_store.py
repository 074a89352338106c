"""The store of stage outputs: reuse, damage, concurrency, killed processes and full disks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgepack.base import files
from edgepack.errors import ConfigError, DataError, StorageError
from edgepack.execution import store
from edgepack.execution.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Output:
    """What the stages of these tests return."""

    path: Path
    number: int = 0
    more: tuple[Path, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def make(text: str = "data", number: int = 7) -> Callable[[Path], Output]:
    def function(out: Path) -> Output:
        (out / "deep").mkdir()
        (out / "model.bin").write_text(text)
        (out / "deep" / "more.bin").write_bytes(b"\0" * 1000)
        return Output(out / "model.bin", number, (out / "deep" / "more.bin",), {"z": "1", "a": "2"})

    return function


def entries(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("_value.json"))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_dir()]


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# --- reuse ------------------------------------------------------------------------------------------------------------


def test_the_same_inputs_run_once(kept: Store) -> None:
    first = kept.run("stage", 1, {"a": 1, "b": "x"}, Output, make())
    second = kept.run("stage", 1, {"b": "x", "a": 1}, Output, make("other"))
    assert first == second
    assert first.path.read_text() == "data"
    assert (kept.ran, kept.reused) == (["stage"], ["stage"])


def test_another_process_reuses_too(kept: Store) -> None:
    first = kept.run("stage", 1, {}, Output, make())
    again = Store(kept.folder)
    assert again.run("stage", 1, {}, Output, make("other")) == first
    assert again.ran == []


@pytest.mark.parametrize(
    ("stage", "version", "inputs"),
    [("other", 1, {"a": 1}), ("stage", 2, {"a": 1}), ("stage", 1, {"a": 2}), ("stage", 1, {"a": 1, "b": None})],
)
def test_anything_different_runs_again(kept: Store, stage: str, version: int, inputs: dict[str, Any]) -> None:
    kept.run("stage", 1, {"a": 1}, Output, make())
    kept.run(stage, version, inputs, Output, make("new"))
    assert len(kept.ran) == 2
    assert len(entries(kept.folder)) == 2


def test_paths_in_the_value_point_into_the_store(kept: Store) -> None:
    output = kept.run("stage", 1, {}, Output, make())
    assert output.path.parent == entries(kept.folder)[0]
    assert output.more[0].read_bytes() == b"\0" * 1000
    assert output.path.is_absolute()


def test_a_store_may_be_moved_and_copied(kept: Store, tmp_path: Path) -> None:
    kept.run("stage", 1, {}, Output, make())
    shutil.copytree(kept.folder, tmp_path / "copied", copy_function=shutil.copyfile)  # new times
    kept.folder.rename(tmp_path / "moved")
    for name in ("moved", "copied"):
        other = Store(tmp_path / name)
        output = other.run("stage", 1, {}, Output, make("other"))
        assert (other.ran, output.path.read_text()) == ([], "data")
        assert output.path.is_relative_to(tmp_path / name)


def test_an_entry_that_is_no_longer_fresh_is_made_again(kept: Store) -> None:
    kept.run("stage", 1, {}, Output, make("old"))
    answers = iter([False, False, True])
    output = kept.run("stage", 1, {}, Output, make("new"), fresh=lambda _: next(answers, True))
    assert output.path.read_text() == "new"
    assert len(entries(kept.folder)) == 1


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [DataError("no"), RuntimeError("no"), KeyboardInterrupt()])
def test_a_stage_that_fails_leaves_nothing(kept: Store, error: BaseException) -> None:
    def function(out: Path) -> Output:
        (out / "half").write_text("half")
        raise error

    with pytest.raises(type(error)):
        kept.run("stage", 1, {}, Output, function)
    assert entries(kept.folder) == []
    assert leftovers(kept.folder) == []
    assert kept.run("stage", 1, {}, Output, make()).number == 7


def test_a_value_that_cannot_be_written_leaves_nothing(kept: Store) -> None:
    with pytest.raises(ValueError, match="cannot hold the number nan"):
        kept.run("stage", 1, {}, Output, lambda out: Output(out, float("nan")))  # type: ignore[arg-type]
    assert entries(kept.folder) == []
    assert leftovers(kept.folder) == []


DAMAGE: dict[str, Callable[[Path], object]] = {
    "file-missing": lambda e: (e / "model.bin").unlink(),
    "file-longer": lambda e: (e / "model.bin").write_text("data and more"),
    "file-shorter": lambda e: (e / "model.bin").write_text(""),
    "same-size": lambda e: (e / "model.bin").write_text("DATA"),
    "inner-missing": lambda e: shutil.rmtree(e / "deep"),
    "file-is-folder": lambda e: ((e / "model.bin").unlink(), (e / "model.bin").mkdir()),
    "no-value": lambda e: (e / "_value.json").unlink(),
    "empty-value": lambda e: (e / "_value.json").write_text(""),
    "half-a-value": lambda e: (e / "_value.json").write_text((e / "_value.json").read_text()[:100]),
    "binary-value": lambda e: (e / "_value.json").write_bytes(b"\xff\x00\x80"),
    "list-value": lambda e: (e / "_value.json").write_text("[]"),
    "deep-value": lambda e: (e / "_value.json").write_text("[" * 100_000),
    "other-schema": lambda e: (e / "_value.json").write_text('{"files": {}, "value": {"nothing": 1}}'),
    "files-not-marks": lambda e: (e / "_value.json").write_text('{"files": {"model.bin": 4}, "value": {}}'),
    "entry-is-file": lambda e: (shutil.rmtree(e), e.write_text("x")),
    "entry-is-empty": lambda e: (shutil.rmtree(e), e.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_is_made_again(kept: Store, damage: Callable[[Path], object]) -> None:
    kept.run("stage", 1, {}, Output, make())
    damage(entries(kept.folder)[0])
    output = kept.run("stage", 1, {}, Output, make("new!"))
    assert output.path.read_text() == "new!"
    assert kept.ran == ["stage", "stage"]
    assert len(entries(kept.folder)) == 1
    assert leftovers(kept.folder) == []


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file and give it back its size's and time's looks, as a copying tool or an attacker may."""
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("again", [False, True], ids=["same-process", "next-process"])
def test_a_file_changed_with_its_time_kept_is_made_again(kept: Store, again: bool) -> None:
    output = kept.run("stage", 1, {}, Output, make())
    assert kept.run("stage", 1, {}, Output, make("new!")) == output
    keep_times(output.path, lambda path: path.write_text("DATA"))
    other = Store(kept.folder) if again else kept
    assert other.run("stage", 1, {}, Output, make("new!")).path.read_text() == "new!"


def test_what_is_reused_is_hashed_once_a_process(kept: Store, hashed: list[Path], calm: None) -> None:
    kept.run("stage", 1, {}, Output, make())
    hashed.clear()
    kept.run("stage", 1, {}, Output, make())
    assert hashed == []
    again = Store(kept.folder)
    for _ in range(3):
        again.run("stage", 1, {}, Output, make())
    assert sorted(path.name for path in hashed) == ["model.bin", "more.bin"]


@pytest.mark.parametrize("where", [".", "stage"])
def test_a_store_that_others_may_write_is_refused(kept: Store, where: str) -> None:
    kept.run("stage", 1, {}, Output, make())
    folder = kept.folder / where
    for mode in (0o775, 0o757):
        folder.chmod(mode)
        with pytest.raises(StorageError, match="other users may write") as caught:
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


# --- many processes ---------------------------------------------------------------------------------------------------


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
from test_store import Output
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
    command = [sys.executable, "-c", WORKER, str(folder), str(first), str(Path(__file__).parent)]
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


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The full disk is simulated by a limit on the size of files (EFBIG in place of ENOSPC)."""
    code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import Output
from edgepack.errors import StorageError
from edgepack.execution.store import Store
store = Store(Path({str(tmp_path / "store")!r}))
def function(out):
    (out / "big").write_bytes(b"x" * 50_000)
    return Output(out / "big")
store.run("stage", 1, {{"n": 1}}, Output, function)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    store.run("stage", 1, {{"n": 2}}, Output, function)
except StorageError as error:
    print(error.message)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("no space left")
    assert len(entries(tmp_path / "store")) == 1
    assert leftovers(tmp_path / "store") == []


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Store]:
    """A store on a real file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield Store(folder / "store")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_really_full_disk_is_told_and_finished_stages_stay(small_store: Store) -> None:
    def function(out: Path) -> Output:
        (out / "big").write_bytes(b"x" * 200_000)
        return Output(out / "big")

    for n in range(2):
        small_store.run("stage", 1, {"n": n}, Output, function)
    with pytest.raises(StorageError, match="no space left"):
        small_store.run("stage", 1, {"n": 2}, Output, function)
    assert leftovers(small_store.folder) == []
    small_store.run("stage", 1, {"n": 0}, Output, lambda _: pytest.fail("finished stages must stay"))


def test_a_store_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        Store(tmp_path / "file" / "store").run("stage", 1, {}, Output, make())


# --- digests of files -------------------------------------------------------------------------------------------------


def age(path: Path) -> None:
    """Make a file look old enough for its digest to be kept; its change time is set by waiting."""
    os.utime(path, ns=(1, 1))


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests are kept at once, as if every file were old."""
    monkeypatch.setattr(store, "_RACY_NS", -1)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    read: list[Path] = []

    def sha256_file(path: Path) -> str:
        read.append(path)
        return files.sha256_file(path)

    monkeypatch.setattr(store, "sha256_file", sha256_file)
    return read


@pytest.mark.usefixtures("calm")
def test_an_unchanged_file_is_read_once(kept: Store, tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    first = kept.sha256(path)
    assert kept.sha256(path) == first == files.sha256_file(path)
    kept.save()
    assert Store(kept.folder).sha256(path) == first
    assert hashed == [path]


def test_a_file_just_written_is_read_every_time(kept: Store, tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    kept.sha256(path)
    kept.sha256(path)
    assert len(hashed) == 2


@pytest.mark.usefixtures("calm")
def test_a_change_of_the_same_size_and_time_is_seen(kept: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    age(path)
    kept.sha256(path)
    path.write_text("two")
    age(path)
    assert kept.sha256(path) == files.sha256_file(path)


@pytest.mark.usefixtures("calm")
def test_another_file_renamed_over_it_is_seen(kept: Store, tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "g"
    for file, text in ((path, "one"), (other, "two")):
        file.write_text(text)
        age(file)
    kept.sha256(path)
    other.replace(path)
    assert kept.sha256(path) == files.sha256_file(path)


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"/f": 3}', '{"/f": [1,2,3,4]}', "[" * 100_000, "\x00"])
def test_damaged_digests_are_forgotten(kept: Store, tmp_path: Path, text: str) -> None:
    kept.folder.mkdir()
    (kept.folder / "digests.json").write_text(text)
    path = tmp_path / "f"
    path.write_text("one")
    assert kept.sha256(path) == files.sha256_file(path)
    kept.save()
    assert len(json.loads((kept.folder / "digests.json").read_text())) >= 1


@pytest.mark.usefixtures("calm")
def test_digests_of_vanished_files_are_dropped_when_there_are_many(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MOST_DIGESTS", 3)
    for n in range(5):
        path = tmp_path / str(n)
        path.write_text(str(n))
        kept.sha256(path)
        if n:
            path.unlink()
    kept.save()
    assert list(json.loads((kept.folder / "digests.json").read_text())) == [str(tmp_path / "0")]


def test_nothing_is_written_when_nothing_was_learnt(kept: Store) -> None:
    kept.save()
    assert not kept.folder.exists()


# --- housekeeping -----------------------------------------------------------------------------------------------------


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
    opened._digests_changed, opened._digests = True, {}
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


# --- threads of one build ---------------------------------------------------------------------------------------------


def test_threads_that_ask_for_the_same_at_once_make_it_once(kept: Store) -> None:
    begun, made = threading.Barrier(4), []

    def slow(out: Path) -> Output:
        made.append(out)
        time.sleep(0.3)
        return make()(out)

    def ask(own: Store) -> None:
        begun.wait()
        own.run("stage", 1, {"a": 1}, Output, slow)

    stores = [kept.beside() for _ in range(4)]
    threads = [threading.Thread(target=ask, args=(own,)) for own in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted((len(own.ran), len(own.reused)) for own in stores) == [(0, 1), (0, 1), (0, 1), (1, 0)]
    assert (kept.ran, kept.reused) == ([], [])


def test_one_that_fails_is_made_by_the_next_thread(kept: Store) -> None:
    def fails(out: Path) -> Output:
        raise DataError("no")

    with pytest.raises(DataError):
        kept.run("stage", 1, {}, Output, fails)
    assert kept.beside().run("stage", 1, {}, Output, make()).number == 7


def test_what_is_there_is_found_and_nothing_is_made_of_what_is_not(kept: Store) -> None:
    assert kept.find("stage", 1, {"a": 1}, Output) is None
    assert not kept.folder.exists()
    made = kept.run("stage", 1, {"a": 1}, Output, make())
    assert kept.find("stage", 1, {"a": 1}, Output) == made
    assert kept.find("stage", 1, {"a": 1}, Output, fresh=lambda _: False) is None
    made.path.write_text("changed")
    assert kept.find("stage", 1, {"a": 1}, Output) is None
