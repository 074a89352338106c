"""Digests of files: each is read once, and again when it may have changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgepack.base import files
from edgepack.execution import digests
from edgepack.execution.store import Store

pytestmark = pytest.mark.slow


def age(path: Path) -> None:
    """Make a file look old enough for its digest to be kept; its change time is set by waiting."""
    os.utime(path, ns=(1, 1))


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
    monkeypatch.setattr(digests, "_MOST_DIGESTS", 3)
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
