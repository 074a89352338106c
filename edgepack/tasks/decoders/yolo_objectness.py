"""yolo-objectness: YOLOv5, YOLOv7 as they are exported: box, objectness and class scores, one row a candidate.

Output [1, n, 5 + classes]: center x, center y, width, height in pixels of the input, objectness, probabilities; a box's
score is their product. Source: github.com/ultralytics/yolov5, models/yolo.py (Detect) and utils/general.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, check_unread, choose, single


@dataclass(frozen=True)
class Parameters:
    """``normalized`` boxes are 0 to 1. So many last values of a row are ``unread``, as the weights of masks are."""

    normalized: bool = False
    unread: int = 0


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    value = single(outputs, 3, "[1, n, 5 + classes]")
    value = value[:, : value.shape[1] - made.unread]
    if value.shape[1] < 6:
        raise DataError(f"{value.shape[1]} values a box are too few for 4 sides, objectness and a class")
    classes = value.shape[1] - 5
    value = value[value[:, 4] > wanted.least]
    rows, numbers, scores = choose(value[:, 5:] * value[:, 4:5], wanted)
    boxes = value[rows, :4]
    if made.normalized:
        boxes = boxes * np.array([frame.input_width, frame.input_height] * 2, boxes.dtype)
    return Candidates(from_centers(boxes), scores, numbers, classes=classes)


def _check(made: Parameters) -> None:
    check_unread(made.unread)


DECODER = Decoder("YOLOv5, YOLOv7", Parameters, _decode, check=_check)
