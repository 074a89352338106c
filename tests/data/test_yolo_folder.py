"""YOLO folders as tools write them: labels beside the pictures, parts as lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shape_data import NAMES, write_yolo

from edgepack.data.samples import find_samples, read_any_labels
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.task import Task

DETECTION = Task("object-detection", "yolo", classes=NAMES)


def find(root: Path, task: Task | None = DETECTION) -> SampleSet:
    return find_samples(str(root), None, Preprocessing(resize=(32, 32)), task=task)


@pytest.mark.parametrize(("folder", "names"), [("", "_darknet.labels"), ("obj_train_data", "obj.names")])
def test_labels_beside_the_pictures_are_read(folder: str, names: str, tmp_path: Path) -> None:
    """As Roboflow ("darknet") and CVAT ("YOLO 1.1") write them."""
    usual = find(write_yolo(tmp_path / "x"))
    flat = tmp_path / "flat" / folder
    flat.mkdir(parents=True)
    for file in (*(tmp_path / "x" / "images").iterdir(), *(tmp_path / "x" / "labels").iterdir()):
        shutil.copy(file, flat)
    (tmp_path / "flat" / names).write_text("\n".join(NAMES))
    (tmp_path / "flat" / "train.txt").write_text("data/obj_train_data/000.png\n")
    samples = find(tmp_path / "flat")
    assert (samples.kind, samples.classes) == ("yolo", NAMES)
    assert [a.digest() for a in read_any_labels(samples)] == [b.digest() for b in read_any_labels(usual)]
    assert find(tmp_path / "flat", None).kind == "pictures" if not folder else True


def test_texts_beside_the_pictures_are_no_labels(tmp_path: Path) -> None:
    root = (write_yolo(tmp_path / "x") / "images").rename(tmp_path / "captioned")
    for picture in list(root.iterdir()):
        picture.with_suffix(".txt").write_text("5 circles in front of a wall\n")
    assert find(root).kind == "pictures"


def test_pictures_of_another_part_in_the_same_folder_have_labels_too(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "val.txt").write_text("./images/001.png\n")
    (root / "data.yaml").write_text("val: val.txt\nnames: [circle, square, cross]\n")
    assert len(find(root).indices) == 1
    (root / "images" / "002.png").unlink()
    with pytest.raises(DataError, match=r"002\.txt has labels, and there is no picture"):
        find(root)


@pytest.mark.parametrize("listed", [False, True])
def test_paths_may_be_written_on_windows(listed: bool, tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    lines = "".join(f"images\\{number:03}.png\r\n" for number in range(6))
    (root / "val.txt").write_bytes(lines.encode())
    place = "val.txt" if listed else ".\\images"
    (root / "data.yaml").write_bytes(f"path: .\\\r\nval: {place}\r\nnames: [circle, square, cross]\r\n".encode())
    assert len(find(root).indices) == 6


def test_suffixes_of_labels_may_be_in_capitals(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    usual = [label.digest() for label in read_any_labels(find(root))]
    for file in list((root / "labels").iterdir()):
        file.rename(file.with_suffix(".TXT"))
    assert [label.digest() for label in read_any_labels(find(root))] == usual
    (root / "images" / "002.png").unlink()
    with pytest.raises(DataError, match=r"002\.TXT has labels, and there is no picture"):
        find(root)


def test_pictures_none_of_which_has_labels_are_refused(tmp_path: Path) -> None:
    """With a folder "Images" nothing was found and all pictures counted as empty."""
    root = write_yolo(tmp_path)
    (root / "images").rename(root / "Images")
    (root / "data.yaml").write_text("val: Images\nnames: [circle, square, cross]\n")
    with pytest.raises(DataError, match=r"none of the 6 pictures of .* has a label file") as caught:
        find(root)
    assert str(root / "Images" / "000.txt") in str(caught.value.hint)


def test_pictures_that_share_labels_are_named(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    shutil.copy(root / "images" / "003.png", root / "images" / "003.jpg")
    note = f"003.jpg and 003.png of {root} have one label file, 003.txt, and so the same labels"
    assert note in find(root).notes
