"""Sources in archives: the one model in them is found, and what is hostile is refused before it is written."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from imported_models import float_network

from edgepack.errors import ModelError
from edgepack.export import name_of
from edgepack.export.archive import archive_suffix, unpack_source

MODEL = float_network().SerializeToString()
Files = dict[str, bytes]


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: Files) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


PACKED: dict[str, Callable[[Path, Files], Path]] = {
    "m.zip": zipped, "m.tar": tarred, "m.tar.gz": tarred, "m.tgz": tarred, "m.tar.xz": tarred,
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("folder", ["", "export/net/"])
def test_the_model_in_it_is_found(name: str, folder: str, tmp_path: Path) -> None:
    path = PACKED[name](tmp_path / name, {f"{folder}net.onnx": MODEL, f"{folder}README.md": b"read me"})
    assert archive_suffix(str(path)) == name[1:]
    found = unpack_source(str(path), tmp_path / "out")
    assert found.read_bytes() == MODEL
    assert found.is_relative_to(tmp_path / "out")
    assert name_of(str(path)) == "m"


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
def test_a_folder_that_a_framework_takes_is_taken_whole(name: str, tmp_path: Path) -> None:
    files = {"net/config.json": b'{"model_type": "bert"}', "net/model.safetensors": b"0" * 64}
    found = unpack_source(str(PACKED[name](tmp_path / name, files)), tmp_path / "out")
    assert (found.name, found.is_dir()) == ("net", True)


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.onnx": MODEL, "b/c.onnx": MODEL}, "holds 2 models: a.onnx, b/c.onnx"),
        ({"README.md": b"nothing"}, "holds no model"),
        ({}, "holds no model"),
        ({"../out.onnx": MODEL}, "leads outside the folder"),
        ({"/etc/out.onnx": MODEL}, "leads outside the folder"),
        ({"a\\..\\..\\b.onnx": MODEL}, "has a backslash"),
        ({"zeros.bin": bytes(80 << 20)}, "times its size"),
        ({f"{'a/' * 300}net.onnx": MODEL}, "has folders 301 deep"),
    ],
)
def test_what_is_wrong_is_said(name: str, files: Files, message: str, tmp_path: Path) -> None:
    path = PACKED[name](tmp_path / name, files)
    with pytest.raises(ModelError, match=message):
        unpack_source(str(path), tmp_path / "inner" / "out")
    assert not (tmp_path / "inner" / "out.onnx").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        member = tarfile.TarInfo("net.onnx")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ModelError, match="is a link or not a regular file"):
        unpack_source(str(tmp_path / "m.tar"), tmp_path / "out")
    assert not os.path.lexists(tmp_path / "out" / "source" / "net.onnx")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_of_gigabytes_is_not_read_into_memory(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("long")
    member.type, member.size = kind, 4 << 30
    (tmp_path / "m.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(ModelError, match=r"m\.tar: it holds an entry of 4294967296 bytes that is not a file"):
        unpack_source(str(tmp_path / "m.tar"), tmp_path / "out")


@settings(max_examples=60, deadline=None)
@example(name="m.zip", cut=1.0, flips=[28])  # zlib's own error
@given(name=st.sampled_from(sorted(PACKED)), cut=st.floats(0, 1), flips=st.lists(st.integers(0, 4000), max_size=4))
def test_damaged_archives_are_refused_or_read(
    name: str, cut: float, flips: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("damaged")
    path = PACKED[name](place / name, {"net.onnx": MODEL})
    data = bytearray(path.read_bytes())
    for flip in flips:
        data[flip % len(data)] ^= 0x5A
    path.write_bytes(data[: int(len(data) * cut)])
    try:
        found = unpack_source(str(path), place / "out")
    except ModelError as error:
        assert error.hint  # noqa: PT017  (any of the reasons, with what to do)
    else:
        assert found.is_relative_to(place / "out")


def test_formats_that_are_zip_files_are_no_archives(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.keras", {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""})
    assert archive_suffix(str(path)) is None
    assert archive_suffix("nothing.zip") is None
