"""Zip files of samples: read like the folder in them, and never beyond it."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
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


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A data set of this machine that an archive must not read."""
    return write_yolo(tmp_path / "private")


@pytest.mark.parametrize(
    ("part", "listed"),
    [
        ("val: {private}/images", ""),
        ("val: ../../../private/images", ""),
        ("path: {private}\nval: images", ""),
        ("val: list.txt", "{private}/images/000.png"),
        ("val: list.txt", "../../../private/images/000.png"),
        ("val: [., '{private}/images']", ""),
        ("val: {private}/list.txt", ""),
    ],
)
def test_an_archives_data_yaml_names_nothing_of_this_machine(
    part: str, listed: str, private: Path, tmp_path: Path
) -> None:
    (private / "list.txt").write_text("images/000.png")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "list.txt").write_text(listed.format(private=private))
    names = "\nnames: [circle, square, cross]"
    (tmp_path / "x" / "data.yaml").write_text(part.format(private=private) + names)
    with pytest.raises(DataError, match=r"outside of|there is no .*/unpacked/.*/images"):
        find_samples(str(packed(tmp_path / "x")), INPUTS, MADE, task=TASK)
    (tmp_path / "x" / "data.yaml").write_text(f"val: {private}/images{names}")
    named = find_samples(str(tmp_path / "x"), INPUTS, MADE, task=TASK)  # by the user's own folder it may
    assert len(named.indices) == 6
    assert any(f"6 of 6 pictures lie outside of {tmp_path / 'x'}, such as {private}" in note for note in named.notes)


def test_where_its_author_had_an_archives_pictures_does_not_matter(private: Path, tmp_path: Path) -> None:
    write_yolo(tmp_path / "x", 3)
    text = (tmp_path / "x" / "data.yaml").read_text()
    for path in (str(private), "/home/author/shapes", "../private"):
        (tmp_path / "x" / "data.yaml").write_text(text.replace("path: .", f"path: {path}"))
        assert len(find_samples(str(packed(tmp_path / "x")), INPUTS, MADE, task=TASK).indices) == 3


def test_labels_are_looked_for_in_an_archive_alone(
    private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels lie in ``labels`` for ``images``: without such a folder in the archive one above it was taken."""
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "images" / "store"))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "data.yaml").write_text("val: .\nnames: [circle, square, cross]\n")
    (private / "images" / "000.png").rename(tmp_path / "x" / "a.png")
    with pytest.raises(DataError, match=r"labels/.*a\.txt lies outside of what was unpacked"):
        find_samples(str(packed(tmp_path / "x")), INPUTS, MADE, task=TASK)


@pytest.mark.parametrize("name", ["other/images/000.png", "000.png"])
def test_an_archives_json_finds_no_pictures_of_other_archives(name: str, tmp_path: Path) -> None:
    """Pictures may lie beside the folder of the file: of an archive's that is where others are unpacked."""
    write_coco(tmp_path / "cache" / "unpacked" / "other")
    path = write_coco(tmp_path / "x", 1)
    path.write_text(path.read_text().replace('"000.png"', f'"{name}"'))
    shutil.rmtree(tmp_path / "x" / "images")
    shutil.copytree(tmp_path / "cache" / "unpacked" / "other" / "images", tmp_path / "cache" / "unpacked" / "images")
    with pytest.raises(DataError, match=r"no picture of .* is found"):
        find_samples(str(packed(tmp_path / "x")), INPUTS, MADE, task=TASK)


def test_damaged_packing_is_an_error_of_edgepack(tmp_path: Path) -> None:
    """zlib's own error has no base in common with zipfile's."""
    causes = set()
    for place in range(30, 80):
        path = tmp_path / f"{place}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", " ".join(map(str, range(300))))
        data = bytearray(path.read_bytes())
        data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            zip_file.unpacked(path)
        except DataError as error:
            causes.add(type(error.__cause__))
    assert zlib.error in causes


def test_folders_above_the_data_are_gone_down(tmp_path: Path) -> None:
    write_voc(tmp_path / "x")
    samples = find_samples(str(packed(tmp_path / "x", "VOCdevkit/VOC2012/")), INPUTS, MADE, task=TASK)
    assert len(samples.indices) == 6
    assert samples.labelled


def test_backslashes_in_names_are_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'shapes.+data\.yaml' has a backslash"):
        zip_file.check_name(tmp_path / "x.zip", "shapes\\data.yaml")
