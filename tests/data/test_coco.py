"""COCO's JSON: what is no such file, and entries that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shape_data import NAMES, write_coco

from edgepack.data.samples import find_samples, read_any_labels
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task


def find(place: Path) -> SampleSet:
    task = Task("object-detection", "yolo", classes=NAMES)
    inputs = (TensorSpec("x", "float32", (1, 3, 32, 32)),)
    return find_samples(str(place), inputs, Preprocessing(resize=(32, 32), letterbox=True), task=task)


@pytest.mark.parametrize(
    "change",
    [
        {"images": [], "annotations": []},
        {"images": [{"id": 1, "file_name": "../../etc/passwd", "height": 1, "width": 1}], "annotations": []},
        {"images": [{"id": 1}], "annotations": []},
        {"images": [{"id": 1, "file_name": "gone.png", "height": 1, "width": 1}], "annotations": []},
        {"annotations": [{"id": 1, "image_id": 10, "category_id": 5, "bbox": [1, 2]}]},
        {"annotations": [{"id": 1, "image_id": 10, "category_id": 5, "bbox": "x"}]},
        {"annotations": {}},
        {"annotations": [{"id": 1, "image_id": 77777, "category_id": 5, "bbox": [1, 2, 3, 4]}]},
    ],
)
def test_json_that_is_not_cocos_is_refused(change: dict, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError):
        find(path)


@pytest.mark.parametrize(
    ("key", "wrong", "message"),
    [
        ("image_id", 10.5, "image_id is 10.5, not a whole number"),
        ("image_id", float("inf"), "image_id is inf, not a whole number"),
        ("category_id", float("nan"), "category_id is nan, not a whole number"),
        ("category_id", True, "category_id is True, not a whole number"),
        ("category_id", 10**40, r"there is no class 10{40}; there are 5 to 11"),
        ("bbox", "1234", "bbox is '1234', not a list of numbers"),
        ("bbox", [1, 2, 3, "4"], r"bbox is \[.*, not a list of numbers"),
        ("bbox", [1, 2, 3], "bbox has 3 numbers, not 4"),
        ("bbox", [1e308, 1e308, 1e308, 1e308], "a box .* has no area"),
        ("iscrowd", "false", "iscrowd is 'false', not 0 or 1"),
        ("area", float("nan"), "its area is nan"),
        ("area", -4, "its area is -4"),
        ("area", 1e11, r"its area is 1e\+11"),
        ("keypoints", [1, 1, 2, 1], "keypoints has 4 numbers, not three for each point"),
        ("keypoints", [float("nan"), 1, 2], "its points are not all numbers"),
        ("keypoints", [1, 1, -1], "its points are not all numbers"),
    ],
)
def test_an_annotation_that_is_wrong_is_named(key: str, wrong: object, message: str, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["annotations"][0][key] = wrong
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=f"the annotation 1: {message}"):
        find(path)


def test_ids_and_flags_may_be_written_as_text(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["annotations"][0] |= {"iscrowd": "0", "image_id": "10", "area": None, "keypoints": None}
    data["annotations"][-1]["iscrowd"] = 1
    path.write_text(json.dumps(data))
    labels = read_any_labels(find(path))
    assert (labels[0].crowd[0], labels[-1].crowd[-1]) == (False, True)


def test_names_may_be_written_on_windows(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    for row in data["images"]:
        row["file_name"] = f"sub\\{Path(row['file_name']).name}"
        file = next(p for p in tmp_path.rglob("*.png") if p.name == row["file_name"].split("\\")[1])
        (file.parent / "sub").mkdir(exist_ok=True)
        file.rename(file.parent / "sub" / file.name)
    path.write_text(json.dumps(data))
    assert len(find(path).indices) == 6
    data["images"][0]["file_name"] = "..\\sub\\a.png"
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match="leads outside"):
        find(path)


@pytest.mark.parametrize(
    "change",
    [{"bbox": None}, {"bbox": []}, {}],
)
def test_polygons_alone_have_the_box_that_they_span(change: dict, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    usual = [label.corners.tolist() for label in read_any_labels(find(path))]
    for row in data["annotations"]:
        left, top, width, height = row.pop("bbox")
        middle = [left, top, left + width, top, left + 1, top + height]
        row |= {"segmentation": [middle, [left + 1, top + 1, left + 2, top + 2, left + 2, top + 1]], **change}
    path.write_text(json.dumps(data))
    assert [label.corners.tolist() for label in read_any_labels(find(path))] == usual
    data["annotations"][0]["segmentation"] = {"counts": [10, 20], "size": [80, 120]}
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match="the annotation 1: bbox "):
        find(path)


def test_pictures_whose_size_is_not_stated_have_their_own(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    data = json.loads(path.read_text())
    for row in data["images"]:
        del row["height"], row["width"]
    path.write_text("\ufeff" + json.dumps(data), encoding="utf-8")  # Windows' mark is no hindrance
    assert {(label.height, label.width) for label in read_any_labels(find(path))} == {(80, 120)}
    data["images"][0]["width"] = 120
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match="the picture 10: height is None, not a whole number"):
        find(path)
