"""Keeping a shared store small and whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_outputs import Machine, Output, make

from edgepack.errors import ConfigError, StorageError
from edgepack.execution.shared import upkeep
from edgepack.execution.shared.record import make_record, write_record
from edgepack.execution.shared.shared import blob_name, record_name
from edgepack.execution.shared.upkeep import entries_of_shared, prune_shared, remove_damaged, verify_shared


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Four outputs of a machine, of about 1, 2, 3 and 4 kB, the largest one the oldest."""
    made = Machine(tmp_path / "local", f"file://{tmp_path}/shared")
    for number in range(1, 5):
        made.output(number, size=number * 1000)
        for entry in entries_of_shared(made.shared):
            if entry.size_bytes == number * 1000:
                stamp = time.time() - number * 3600
                os.utime(tmp_path / "shared" / entry.name, (stamp, stamp))
    return made


def blobs(folder: Path) -> list[int]:
    return sorted(path.stat().st_size for path in (folder / "shared" / "blobs").rglob("*") if path.is_file())


def test_entries_are_listed_the_oldest_first(machine: Machine) -> None:
    found = entries_of_shared(machine.shared)
    assert [entry.size_bytes for entry in found] == [4000, 3000, 2000, 1000]
    assert {(entry.stage, entry.bad) for entry in found} == {("stage", "")}


def test_the_oldest_go_until_the_rest_fits(machine: Machine, tmp_path: Path) -> None:
    removed = prune_shared(machine.shared, None, 3500)
    assert [entry.size_bytes for entry in removed] == [4000, 3000]
    assert blobs(tmp_path) == [0, 1000, 2000]
    assert not verify_shared(machine.shared)


def test_what_is_older_goes(machine: Machine, tmp_path: Path) -> None:
    removed = prune_shared(machine.shared, time.time() - 2.5 * 3600, None)
    assert [entry.size_bytes for entry in removed] == [4000, 3000]


def test_contents_that_another_output_has_stay(machine: Machine, tmp_path: Path) -> None:
    machine.run("other", 1, {}, Output, make(4, 4000))
    prune_shared(machine.shared, time.time() - 3.5 * 3600, None)
    assert 4000 in blobs(tmp_path)
    assert not verify_shared(machine.shared)


def test_what_others_put_there_stays_and_what_was_left_goes(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "shared" / "blobs"
    old = time.time() - 100_000
    names = {"note.txt": True, f"ab/{'ab' + 'c' * 62}": False, f"ab/{'ab' + 'd' * 62}": True, "ab/.edgepack-12": False}
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
        if "d" * 62 not in name:  # new: its record may be on its way
            os.utime(folder / name, (old, old))
    prune_shared(machine.shared, None, 1 << 40)
    assert {name: (folder / name).exists() for name in names} == names


def test_damage_is_found_removed_and_made_again(machine: Machine, tmp_path: Path) -> None:
    (three,) = [p for p in (tmp_path / "shared" / "blobs").rglob("*") if p.is_file() and p.stat().st_size == 3000]
    (two,) = [p for p in (tmp_path / "shared" / "blobs").rglob("*") if p.is_file() and p.stat().st_size == 2000]
    three.write_bytes(b"\0" * 3000)
    two.unlink()
    record = tmp_path / "shared" / next(e.name for e in entries_of_shared(machine.shared) if e.size_bytes == 1000)
    record.write_bytes(b"{}")
    found = verify_shared(machine.shared)
    assert len(found) == 3
    whys = " ".join(damage.why for damage in found)
    assert "does not hold what its name says" in whys
    assert "is missing" in whys
    assert "is missing" in whys.replace("the key", "")
    remove_damaged(machine.shared, found)
    assert not verify_shared(machine.shared)
    again = Machine(tmp_path / "other", machine.shared.url)
    for number in range(1, 5):
        again.output(number, size=number * 1000)
    assert again.ran == ["stage"] * 3


def test_nothing_is_removed_of_a_store_that_is_to_be_read_only(machine: Machine, tmp_path: Path) -> None:
    """Both took what others had made, with the very address that pull requests are given."""
    before = blobs(tmp_path)
    (tmp_path / "shared" / entries_of_shared(machine.shared)[0].name).write_bytes(b"{}")
    reader = Machine(tmp_path / "reader", f"{machine.shared.url}?read-only").shared
    for ask in (lambda: prune_shared(reader, None, 0), lambda: remove_damaged(reader, verify_shared(reader))):
        with pytest.raises(ConfigError, match="read-only") as caught:
            ask()
        assert "?read-only" in caught.value.hint
    assert blobs(tmp_path) == before
    assert len(entries_of_shared(reader)) == 4


def test_a_writer_beside_a_prune_loses_nothing(machine: Machine, tmp_path: Path, monkeypatch: object) -> None:
    """What it found there is removed between its look and its record: it looks again at the end."""
    other = Machine(tmp_path / "other", machine.shared.url)
    write = other.shared.remote.write

    def prune_before(name: str, data: bytes) -> None:
        prune_shared(machine.shared, None, 0)
        write(name, data)

    other.shared.remote.write = prune_before  # type: ignore[method-assign]
    other.run("other", 1, {}, Output, make(4, 4000))
    assert not verify_shared(machine.shared)
    assert [entry.stage for entry in entries_of_shared(machine.shared)] == ["other"]


@given(st.dictionaries(st.text(max_size=300), st.sampled_from([0, 3]), max_size=4))
def test_whatever_the_names_a_record_is_taken_or_left(names: dict[str, int]) -> None:
    """A forged record with right digests: its files lie in the folder that was given, or nothing is taken."""
    with tempfile.TemporaryDirectory() as place:
        machine = Machine(Path(place) / "local", f"file://{place}/shared")
        contents = {0: b"", 3: b"abc"}
        for content in contents.values():
            machine.shared.remote.write(blob_name(hashlib.sha256(content).hexdigest()), content)
        files = {name: [size, hashlib.sha256(contents[size]).hexdigest()] for name, size in names.items()}
        record = make_record("a" * 64, {"stage": "s", "version": 1, "files": files, "value": None})
        machine.shared.remote.write(record_name("s", "a" * 64), write_record(record, None))
        into = Path(place) / "into"
        into.mkdir()
        found = machine.shared.fetch("s", "a" * 64, into)
        assert {path.name for path in Path(place).iterdir()} == {"shared", "into"}
        if found is not None:
            taken = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
            assert taken == set(names)


def test_a_store_that_fails_is_an_error_here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise OSError("gone")

    monkeypatch.setattr(machine.shared.remote._files, "find", fail)
    with pytest.raises(StorageError, match="gone"):
        entries_of_shared(machine.shared)
    assert upkeep._GRACE_S > 3600


def test_what_is_pruned_beside_a_check_is_no_damage(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine removes outputs, with their contents, once they were listed: they are gone, not damaged."""
    download = machine.shared.remote.download
    monkeypatch.setattr(
        machine.shared.remote, "download", lambda *words: (prune_shared(machine.shared, None, 2500), download(*words))
    )
    assert verify_shared(machine.shared) == ()


def test_what_was_made_again_since_a_check_stays(machine: Machine, tmp_path: Path) -> None:
    (three,) = [p for p in (tmp_path / "shared" / "blobs").rglob("*") if p.is_file() and p.stat().st_size == 3000]
    whole = three.read_bytes()
    three.write_bytes(b"\0" * 3000)
    found = verify_shared(machine.shared)
    assert len(found) == 1
    three.write_bytes(whole)
    remove_damaged(machine.shared, found)
    assert len(entries_of_shared(machine.shared)) == 4
    assert three.read_bytes() == whole
    assert not verify_shared(machine.shared)
