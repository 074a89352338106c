"""The store of stage outputs: reuse, damage, concurrency, killed processes and full disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import stored
from stored import Output, entries, leftovers, make

from edgepack.errors import DataError, StorageError
from edgepack.execution.store import Kept, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow


def test_a_check_beside_other_processes(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they remove meanwhile is no damage, and what they made again since is not removed."""
    paths = [kept.run("stage", 1, {"n": n}, Output, make()).path for n in range(3)]
    first, second, third = (path.parent for path in paths)
    is_whole = Store._is_whole

    def removed_meanwhile(self: Store, entry: Path) -> bool:
        shutil.rmtree(first, ignore_errors=True)
        return is_whole(self, entry)

    (second / "model.bin").write_text("DATA")
    (third / "model.bin").write_text("DATA")
    monkeypatch.setattr(Store, "_is_whole", removed_meanwhile)
    found = kept.damaged()
    assert set(found) == {second, third}
    kept.run("stage", 1, {"n": 1}, Output, make())
    assert [kept.remove(entry, damaged=True) for entry in (second, third)] == [False, True]
    assert second.is_dir()
    assert not third.exists()


# --- reuse ------------------------------------------------------------------------------------------------------------


def test_the_same_inputs_run_once(kept: Store) -> None:
    first = kept.run("stage", 1, {"a": 1, "b": "x"}, Output, make())
    second = kept.run("stage", 1, {"b": "x", "a": 1}, Output, make("other"))
    assert first == second
    assert first.path.read_text() == "data"
    assert (kept.ran, kept.reused) == (["stage"], ["stage"])


def test_nothing_is_an_output_too(kept: Store) -> None:
    ran = [kept.run("stage", 1, {}, cast("type[Output | None]", Output | None), lambda _: None) for _ in range(2)]
    assert ran == [None, None]
    assert (kept.ran, kept.reused) == (["stage"], ["stage"])
    assert kept.find("stage", 1, {}, cast("type[Output | None]", Output | None)) == Kept(None)


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


def _rewrite(entry: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((entry / "_value.json").read_text())
    change(document)
    (entry / "_value.json").write_text(json.dumps(document))


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
    "another-number": lambda e: _rewrite(e, lambda document: document["value"].update(number=8)),
    "another-digest": lambda e: _rewrite(e, lambda document: document.update(digest="0" * 64)),
    "another-key": lambda e: _rewrite(e, lambda document: document.update(key="0" * 64)),
    "no-digest": lambda e: _rewrite(e, lambda document: document.pop("digest")),
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


def test_an_entry_that_stands_in_the_place_of_another_is_made_again(kept: Store) -> None:
    kept.run("stage", 1, {"model": "a"}, Output, make("of a"))
    (first,) = entries(kept.folder)
    kept.run("stage", 1, {"model": "b"}, Output, make("of b"))
    (second,) = {*entries(kept.folder)} - {first}
    shutil.rmtree(second)
    shutil.copytree(first, second)
    assert Store(kept.folder).damaged() == (second,)
    assert Store(kept.folder).run("stage", 1, {"model": "b"}, Output, make("of b")).path.read_text() == "of b"


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


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The full disk is simulated by a limit on the size of files (EFBIG in place of ENOSPC)."""
    code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(stored.__file__).parent)!r})
from stored import Output
from edgepack.errors import StorageError
from edgepack.execution.store import Kept, Store
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
    answer = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
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
    found = kept.find("stage", 1, {"a": 1}, Output)
    assert found is not None
    assert found.value == made
    assert kept.find("stage", 1, {"a": 1}, Output, fresh=lambda _: False) is None
    made.path.write_text("changed")
    assert kept.find("stage", 1, {"a": 1}, Output) is None
