"""A folder is edgepack's only where its marker, or everything in it, says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.base.owned import MARKER, check_ours, mark
from edgepack.errors import ConfigError, StorageError

KIND = "a store of edgepack"


def is_ours(entry: Path) -> bool:
    return entry.name == "ours"


def check(folder: Path, kind: str = KIND) -> None:
    check_ours(folder, kind, is_ours)


def test_a_new_and_an_empty_folder_may_be_taken(tmp_path: Path) -> None:
    check(tmp_path)
    check(tmp_path / "new")


def test_a_marked_folder_may_hold_anything(tmp_path: Path) -> None:
    mark(tmp_path / "deep" / "store", KIND)
    (tmp_path / "deep" / "store" / "foreign").touch()
    check(tmp_path / "deep" / "store")


def test_a_folder_without_a_marker_is_ours_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "ours").touch()
    check(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="is not a store of edgepack: it holds 'photos'") as caught:
        check(tmp_path)
    assert "nothing was changed" in str(caught.value.hint)


def test_a_marker_that_another_process_writes_just_now_is_no_foreign_file(tmp_path: Path) -> None:
    (tmp_path / f".{MARKER}.01234567.tmp").touch()
    check(tmp_path)
    (tmp_path / f".{MARKER}.0123456z.tmp").touch()
    with pytest.raises(ConfigError, match="it holds"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (b"an installation of edgepack\n", "is marked as an installation of edgepack, not as"),
        (b"", "is marked as something else, not as"),
        (b"a store of edgepack and more\n", "is marked as a store of edgepack and more, not as"),
        (b"\xff\xfe", "not as"),
    ],
)
def test_a_folder_that_is_marked_for_something_else_is_not_ours(tmp_path: Path, marker: bytes, words: str) -> None:
    (tmp_path / MARKER).write_bytes(marker)
    (tmp_path / "ours").touch()
    with pytest.raises(ConfigError, match=words):
        check(tmp_path)


def test_a_folder_as_marker_is_none(tmp_path: Path) -> None:
    (tmp_path / MARKER).mkdir()
    with pytest.raises(ConfigError, match="is marked as something else"):
        check(tmp_path)


def test_a_marker_stays_as_it_is(tmp_path: Path) -> None:
    mark(tmp_path, KIND)
    first = (tmp_path / MARKER).read_text()
    assert first.splitlines()[0] == KIND
    mark(tmp_path, "something else")
    assert (tmp_path / MARKER).read_text() == first
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        mark(tmp_path / "file", KIND)
