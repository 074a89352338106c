"""keypoints: points of things in a picture: of each box, by a detector that gives both, or of the one thing in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepack.specs.answer import Answer, Boxes
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind
from edgepack.tasks.draw import draw_boxes
from edgepack.tasks.object_detection import check_detection, find_boxes
from edgepack.tasks.pictures import prepare_picture


def _answer(task: Task, outputs: Mapping[str, Array], frame: Frame, measuring: bool) -> Answer:
    found = find_boxes(task, outputs, frame, measuring)
    if found.points is not None:
        return found
    points = np.zeros((len(found), 0, 3))
    return Boxes(found.corners, found.scores, found.numbers, found.height, found.width, found.names, points)


TASK = TaskKind(
    "points of the things in a picture", "a picture", prepare_picture, _answer, check_detection,
    ("oks", "map", "map50", "mar"), draw_boxes,
)  # fmt: skip
