"""Points of things: of every box, or of the one thing in the picture."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import ConfigError
from edgepack.specs.answer import Boxes
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task

FRAME = Frame(100, 200, 64, 64, scale_x=0.32, scale_y=0.32, offset_y=16)


def test_points_of_boxes_are_in_pixels_of_the_picture() -> None:
    task = Task("keypoints", "yolo-final", parameters={"points": 2}, classes=("person",))
    check_task(task)
    row = [[16, 24, 32, 40, 0.9, 0, 20, 32, 0.7, 24, 36, 0.2]]
    found = answer(task, {"x": np.array([row], np.float32)}, FRAME)
    assert isinstance(found, Boxes)
    assert found.points is not None
    assert found.points[0].round(2).tolist() == [[62.5, 50, 0.7], [75, 62.5, 0.2]]
    assert found.lines()[0].endswith("(62.5, 50.0) (75.0, 62.5)")


@pytest.mark.parametrize("logits", [False, True])
def test_the_peak_of_each_map_is_its_point(logits: bool) -> None:
    maps = np.full((1, 2, 16, 16), 0.01)
    maps[0, 0, 5, 6], maps[0, 0, 5, 7] = 0.9, 0.5  # the neighbour on the right is higher than that on the left
    maps[0, 1, 0, 0] = 0.8  # at the edge there is no slope
    maps = np.log(maps / (1 - maps)) if logits else maps
    task = Task("keypoints", "heat-maps", parameters={"logits": logits})
    found = answer(task, {"x": maps.astype(np.float32)}, Frame(64, 64, 64, 64))
    assert isinstance(found, Boxes)
    assert found.points is not None
    assert found.points[0] == pytest.approx(np.array([[27, 22, 0.9], [2, 2, 0.8]]), abs=1e-4)


def test_a_cell_may_stand_for_its_first_pixel() -> None:
    """As HRNet's targets are drawn: a point at x lies in the cell int(x / 4 + 0.5)."""
    places = np.array([[8.0, 20.0], [33.0, 61.0]])
    maps = np.zeros((1, 2, 16, 16), np.float32)
    for number, (x, y) in enumerate(places):
        maps[0, number, int(y / 4 + 0.5), int(x / 4 + 0.5)] = 0.9
    task = Task("keypoints", "heat-maps", parameters={"middle": 0.0})
    check_task(task)
    found = answer(task, {"x": maps}, Frame(64, 64, 64, 64))
    assert isinstance(found, Boxes)
    assert found.points is not None
    assert found.points[0, :, :2].tolist() == [[8, 20], [32, 60]]  # whole cells, at no edge a slope
    with pytest.raises(ConfigError, match=r"middle = 2\.0"):
        check_task(Task("keypoints", "heat-maps", parameters={"middle": 2.0}))


def test_boxes_without_points_are_answers_too() -> None:
    task = Task("keypoints", "yolo-final")
    found = answer(task, {"x": np.array([[[16, 24, 32, 40, 0.9, 0]]], np.float32)}, FRAME)
    assert isinstance(found, Boxes)
    assert found.points is not None
    assert found.points.shape == (1, 0, 3)
