"""Zip files of samples: read like the folder in them, and never beyond it."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from shape_data import NAMES, write_coco, write_voc, write_yolo

from edgepack.data import zip_file
from edgepack.data.samples import find_samples, has_pictures, read_any_labels, read_frames, read_samples, sample_names
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

MADE = Preprocessing(resize=(32, 32), letterbox=True)
INPUTS = (TensorSpec("x", "float32", (1, 3, 32, 32)),)
TASK = Task("object-detection", "yolo", classes=NAMES)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "cache" / "store"))


def packed(folder: Path, above: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, above + file.relative_to(folder).as_posix())
        archive.writestr("__MACOSX/._x", "nothing")
    return path


@pytest.mark.parametrize("above", ["", "shapes/"])
@pytest.mark.parametrize("writer", [write_coco, write_yolo, write_voc])
def test_a_zip_is_read_like_its_folder(writer, above: str, tmp_path: Path) -> None:
    writer(tmp_path / "x")
    folder = find_samples(str(tmp_path / "x"), INPUTS, MADE, task=TASK)
    samples = find_samples(str(packed(tmp_path / "x", above)), INPUTS, MADE, task=TASK)
    assert (samples.kind, samples.classes, samples.indices) == ("zip", folder.classes, folder.indices)
    assert [a.digest() for a in read_any_labels(samples)] == [b.digest() for b in read_any_labels(folder)]
    assert list(read_frames(samples)) == list(read_frames(folder))
    assert [Path(n).name for n in sample_names(samples)] == [Path(n).name for n in sample_names(folder)]
    assert has_pictures(samples)
    for one, other in zip(read_samples(samples, INPUTS), read_samples(folder, INPUTS), strict=True):
        assert np.array_equal(one["x"], other["x"])


def test_it_is_unpacked_once(tmp_path: Path) -> None:
    write_yolo(tmp_path / "x")
    path = packed(tmp_path / "x")
    place = zip_file.unpacked(path)
    marked = place / "marked"
    marked.touch()
    assert zip_file.unpacked(path) == place
    assert marked.exists()
    assert [p.name for p in (tmp_path / "cache" / "unpacked").iterdir()] == [place.name]


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    "info",
    [
        entry("../out.txt"), entry("/out.txt"), entry("a/../../out.txt"), entry("a\\..\\..\\out.txt"),
        entry("link", stat.S_IFLNK | 0o777), entry("pipe", stat.S_IFIFO | 0o644), entry("C:/out.txt"),
    ],
    ids=lambda info: info.filename,
)  # fmt: skip
def test_what_would_write_elsewhere_is_refused(info: zipfile.ZipInfo, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match=r"bad\.zip"):
        zip_file.unpacked(path)
    assert not (tmp_path / "out.txt").exists()
    assert list((tmp_path / "cache" / "unpacked").iterdir()) == []


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="times its size"):
        zip_file.unpacked(path)


def test_files_that_are_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "cut.zip"
    write_yolo(tmp_path / "x")
    path.write_bytes(packed(tmp_path / "x").read_bytes()[:-100])
    with pytest.raises(DataError):
        find_samples(str(path), INPUTS, MADE, task=TASK)
    good = packed(tmp_path / "x")
    data = bytearray(good.read_bytes())
    data[60] ^= 255  # in the first member's data
    good.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be unpacked"):
        find_samples(str(good), INPUTS, MADE, task=TASK)
