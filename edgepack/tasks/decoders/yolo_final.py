"""yolo-final: YOLOv10, YOLO26 end to end, and exports with suppression in the graph: final boxes, one a row.

Output [1, n, 6 + points]: left, top, right, bottom in pixels of the input, score, class, then x, y, score of points.
Source: github.com/THU-MIG/yolov10 and github.com/ultralytics/ultralytics, nn/modules/head.py (Detect.postprocess).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, check_unread, single

_MOST_POINTS = 1000


@dataclass(frozen=True)
class Parameters:
    """``points`` is how many points each thing has. So many last values are ``unread``, as the weights of masks are."""

    points: int = 0
    unread: int = 0


def _decode(outputs: Mapping[str, Array], made: Parameters, _frame: Frame, wanted: Wanted) -> Candidates:
    value = single(outputs, 3, "[1, n, 6]")
    value = value[:, : value.shape[1] - made.unread]
    if value.shape[1] != 6 + 3 * made.points:
        raise DataError(f"{value.shape[1]} values a box are not 4 sides, score, class and {made.points} points")
    value = value[value[:, 4] > wanted.least]
    points = value[:, 6:].reshape(-1, made.points, 3) if made.points else None
    return Candidates(value[:, :4], value[:, 4], np.rint(value[:, 5]).astype(np.intp), points)


def _check(made: Parameters) -> None:
    if not 0 <= made.points <= _MOST_POINTS:
        raise ConfigError(f"points = {made.points}", hint=f"write 0 to {_MOST_POINTS}")
    check_unread(made.unread)


DECODER = Decoder("YOLOv10, YOLO26 (end to end)", Parameters, _decode, final=True, check=_check)
