"""From a detector's outputs to boxes in the picture, and what is refused of its settings."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.data.geometry import frame_of
from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Boxes
from edgepack.specs.data import Preprocessing
from edgepack.specs.task import Task
from edgepack.tasks import answer, check_task

LETTERBOX = Preprocessing(resize=(64, 64), letterbox=True)
FRAME = frame_of(100, 200, LETTERBOX)  # scaled by 0.32, 16 pixels above and below


def found(rows: list[list[float]], measuring: bool = False, **settings: object) -> Boxes:
    task = Task("object-detection", "yolo-final", settings=settings, classes=("cat", "dog"))  # type: ignore[arg-type]
    result = answer(task, {"x": np.array([rows], np.float32)}, FRAME, measuring=measuring)
    assert isinstance(result, Boxes)
    return result


def test_boxes_are_in_pixels_of_the_picture() -> None:
    boxes = found([[16, 24, 32, 40, 0.9, 1], [0, 0, 64, 64, 0.5, 0]])
    assert boxes.corners.round(3).tolist() == [[50, 25, 100, 75], [0, 0, 200, 100]]
    assert [box.name for box in boxes] == ["dog", "cat"]
    assert (boxes.height, boxes.width) == (100, 200)


def test_unsure_boxes_count_for_a_metric_only() -> None:
    rows = [[1, 20, 9, 30, 0.2, 0], [1, 20, 9, 30, 0.6, 0]]
    assert found(rows).scores.round(2).tolist() == [0.6]
    assert found(rows, measuring=True).scores.round(2).tolist() == [0.6, 0.2]
    assert len(found(rows, score=0.1)) == 2
    assert len(found(rows, score=0.1, most=1)) == 1


def test_boxes_that_are_not_finite_are_none() -> None:
    assert len(found([[np.nan, 0, 1, 1, 0.9, 0], [0, 0, np.inf, 1, 0.9, 0], [0, 16, 9, 20, 0.9, 0]])) == 1


def test_the_same_thing_is_found_once_unless_of_another_class() -> None:
    output = np.zeros((1, 6, 3), np.float32)
    output[0, :4] = np.array([[30, 30, 10, 10], [31, 30, 10, 10], [30, 31, 10, 10]]).T
    output[0, 4:] = [[0.9, 0.8, 0], [0, 0, 0.7]]

    def count(**settings: object) -> int:
        task = Task("object-detection", "yolo", settings=settings)  # type: ignore[arg-type]
        return len(answer(task, {"x": output}, FRAME).summary()["boxes"])

    # Two rows and three columns of output would be ambiguous; real ones have thousands of columns.
    output = np.concatenate([output, np.zeros((1, 6, 20), np.float32)], axis=2)
    assert count() == 2
    assert count(agnostic=True) == 1
    assert count(iou=0.95) == 3


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("object-detection"), "needs a decoder"),
        (Task("object-detection", "yolov99"), "unknown decoder 'yolov99'"),
        (Task("object-detection", "yolo", settings={"iou": 1.5}), "iou = 1.5"),
        (Task("object-detection", "yolo", settings={"most": 0}), "most = 0"),
        (Task("object-detection", "yolo", settings={"most": 10**9}), "most = 1000000000"),
        (Task("object-detection", "yolo", parameters={"points": -1}), "points = -1"),
        (Task("object-detection", "yolo", parameters={"anchors": 1}), "unknown key 'anchors'"),
        (Task("object-detection", "yolox", parameters={"strides": (0.0,)}), "strides"),
        (Task("object-detection", "yolox", parameters={"strides": (8.0,) * 99}), "strides"),
        (Task("object-detection", "yolo-anchors", parameters={"strides": (8.0,)}), "anchors do not fit"),
        (Task("object-detection", "ssd", parameters={"strides": (8.0,), "sizes": ((-1.0,),)}), "size of priors"),
        (Task("object-detection", "distributions", parameters={"bins": 10**6}), "bins = 1000000"),
        (Task("object-detection", "detr", parameters={"activation": "sigmoid"}), "no class for nothing"),
        (Task("object-detection", "yolo", input={"rate": 1}), "has no input"),
    ],
)
def test_what_cannot_be_meant_is_refused(task: Task, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_task(task)


def test_a_model_of_other_classes_than_the_task_names_is_refused() -> None:
    """A recipe of COCO's 80 classes for a network of one's own would give its answers wrong names."""
    output = np.zeros((1, 4 + 3, 84), np.float32)
    for names, right in ((("a", "b", "c"), True), ((), True), (("a", "b"), False)):
        task = Task("object-detection", "yolo", classes=names)
        if right:
            answer(task, {"x": output}, FRAME)
            continue
        with pytest.raises(DataError, match="the model has 3 classes, and the task names 2"):
            answer(task, {"x": output}, FRAME)
