"""yolo: YOLOv8, YOLO11 and their like without objectness: boxes and class scores, one column a candidate.

Output [1, 4 + classes + points, n] (or its transpose): center x, center y, width, height in pixels of the input, then
probabilities, then x, y and score of each point (or x and y alone). Source: github.com/ultralytics/ultralytics,
nn/modules/head.py (Detect, Pose) and utils/ops.py (non_max_suppression).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, check_unread, choose, single

_MOST_POINTS = 1000


@dataclass(frozen=True)
class Parameters:
    """``points`` is how many points each thing has, of ``point_values`` numbers; ``normalized`` boxes are 0 to 1.

    So many last values of a candidate are ``unread``, as the weights of masks are (YOLOv8-seg has 32).
    """

    points: int = 0
    point_values: int = 3
    normalized: bool = False
    unread: int = 0


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    value = single(outputs, 3, "[1, 4 + classes, n]")
    value = value if value.shape[0] < value.shape[1] else value.T
    value = value[: len(value) - made.unread]
    last = len(value) - made.points * made.point_values
    if last < 5:
        raise DataError(f"{len(value)} values a box are too few for 4 sides, a class and {made.points} points")
    rows, numbers, scores = _best(value[4:last], wanted)
    boxes = value[:4, rows].T
    if made.normalized:
        boxes = boxes * np.array([frame.input_width, frame.input_height] * 2, boxes.dtype)
    points = _points(value[last:, rows], made, frame)
    return Candidates(from_centers(boxes), scores, numbers, points, classes=last - 4)


def _best(scores: Array, wanted: Wanted) -> tuple[Array, Array, Array]:
    """Choose from scores [classes, n], which lie class by class: the highest of each column is found fast there."""
    if wanted.every:
        return choose(scores.T, wanted)
    rows = np.flatnonzero(scores.max(axis=0) > wanted.least)
    part = scores[:, rows]
    numbers = part.argmax(axis=0)
    return rows, numbers, part[numbers, np.arange(len(rows))]


def _points(values: Array, made: Parameters, frame: Frame) -> Array | None:
    if not made.points:
        return None
    found = values.T.reshape(-1, made.points, made.point_values)
    if made.normalized:
        found = found * np.array([frame.input_width, frame.input_height, 1][: made.point_values], found.dtype)
    return found if made.point_values == 3 else np.concatenate([found, np.ones_like(found[..., :1])], axis=2)


def _check(made: Parameters) -> None:
    if not 0 <= made.points <= _MOST_POINTS or made.point_values not in (2, 3):
        raise ConfigError(f"points = {made.points} of {made.point_values} values", hint="a point has 2 or 3 values")
    check_unread(made.unread)


DECODER = Decoder("YOLOv8, YOLO11", Parameters, _decode, check=_check)
