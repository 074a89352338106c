"""The layout of a bundle: what other zip tools read in it, and the largest sizes."""

from __future__ import annotations

import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.bundle.layout import (
    ALIGNMENT_BYTES,
    LayoutError,
    Member,
    in_order,
    lay_out,
    name_problem,
    names_problem,
    read_layout,
)


def write(path, contents):
    """Write members with the layout they must have; a member's contents or, as a number, the size of a hole."""
    members = [
        Member(name, data if isinstance(data, int) else len(data), 0 if isinstance(data, int) else zlib.crc32(data))
        for name, data in contents.items()
    ]
    layout = lay_out(members)
    with path.open("wb") as file:
        for member, header, offset in zip(layout.members, layout.headers, layout.header_offsets, strict=True):
            file.seek(offset)
            file.write(header)
            if not isinstance(contents[member.name], int):
                file.write(contents[member.name])
        file.seek(layout.tail_offset)
        file.write(layout.tail)
    return layout


def test_zipfile_reads_what_is_laid_out(tmp_path):
    contents = {"manifest.json": b"{}", "empty": b"", "model/a.bin": bytes(range(256)) * 100, "z": b"last"}
    write(tmp_path / "a.zip", contents)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == list(contents)
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in contents} == contents
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist())
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_members_larger_than_4_gib_and_beyond_4_gib(tmp_path):
    sizes = {"manifest.json": b"{}", "large": (1 << 32) + 5, "then": b"after the large one"}
    layout = write(tmp_path / "a.zip", sizes)  # a sparse file: the large member is a hole
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [info.file_size for info in archive.infolist()] == [2, (1 << 32) + 5, 19]
        assert archive.read("then") == b"after the large one"
        with archive.open("large") as member:  # compares the local header with the directory
            assert member.read(10) == bytes(10)
    path = tmp_path / "a.zip"
    with path.open("rb") as file:
        assert read_layout(file, path.stat().st_size) == layout


names = st.lists(st.text("abcXYZ019._-/", min_size=1, max_size=30), unique=True, max_size=6)


@given(names=names, sizes=st.lists(st.integers(0, 3 * ALIGNMENT_BYTES), min_size=7, max_size=7))
def test_every_member_starts_on_a_page_and_what_is_written_is_read(tmp_path_factory, names, sizes):
    good = [name for name in names if name_problem(name) is None and name != "manifest.json"]
    if names_problem([*good, "manifest.json"]):
        return
    order = in_order([*good, "manifest.json"])
    path = tmp_path_factory.getbasetemp() / "layout.zip"
    layout = write(path, {name: bytes(size) for name, size in zip(order, sizes, strict=False)})
    assert all(member.offset % ALIGNMENT_BYTES == 0 for member in layout.members)
    assert layout.size_bytes == path.stat().st_size
    with path.open("rb") as file:
        assert read_layout(file, layout.size_bytes) == layout


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../secret", "leads out"),
        ("model/../../x", "leads out"),
        ("/etc/passwd", "absolute"),
        ("C:/windows", "absolute"),
        ("model\\weights", "backslash"),
        ("model//weights", "part that is empty"),
        ("model/", "part that is empty"),
        ("", "part that is empty"),
        (".hidden", "starts with a dot"),
        ("./model", "starts with a dot"),
        ("model/wéights", "characters other"),
        ("model/a b", "characters other"),
        ("new\nline", "characters other"),
        ("nul\0byte", "characters other"),
        ("x" * 300, "longer"),
    ],
)
def test_names_that_a_member_may_not_have(name, why):
    assert why in (name_problem(name) or "")


def test_names_that_may_not_stand_together():
    assert "twice" in (names_problem(["a", "a"]) or "")
    assert "case" in (names_problem(["model/a", "Model/A"]) or "")
    assert "folder" in (names_problem(["model", "model/a"]) or "")
    assert names_problem(["model/a", "model/b/a", "a"]) is None


def test_a_directory_that_claims_more_than_the_file_holds(tmp_path):
    layout = write(tmp_path / "a.zip", {"manifest.json": b"{}", "large": 1 << 40})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(layout.headers[0] + b"{}" + layout.headers[1] + layout.tail)
    with cut.open("rb") as file, pytest.raises(LayoutError):
        read_layout(file, cut.stat().st_size)
