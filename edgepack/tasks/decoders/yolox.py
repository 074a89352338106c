"""yolox: a grid of boxes beside cells, objectness and class scores, for all strides one after the other.

Output [1, n, 5 + classes]: center beside the cell and logarithm of the sides, both in cells; objectness and
probabilities. Source: github.com/Megvii-BaseDetection/YOLOX, yolox/utils/demo_utils.py (demo_postprocess).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, cells, check_strides, choose, grids, single


@dataclass(frozen=True)
class Parameters:
    """``decoded`` boxes are in pixels of the input already (exported with ``--decode_in_inference``)."""

    strides: tuple[float, ...] = (8.0, 16.0, 32.0)
    decoded: bool = False


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    value = single(outputs, 3, "[1, n, 5 + classes]")
    if value.shape[1] < 6:
        raise DataError(f"{value.shape[1]} values a box are too few for 4 sides, objectness and a class")
    sure = np.flatnonzero(value[:, 4] > wanted.least)
    rows, numbers, scores = choose(value[sure, 5:] * value[sure, 4:5], wanted)
    rows = sure[rows]
    boxes = value[rows, :4]
    if not made.decoded:
        columns, lines, levels = cells(grids(frame, made.strides))
        if len(columns) != len(value):
            raise DataError(f"{len(value)} boxes where grids of strides {list(made.strides)} have {len(columns)}")
        steps = np.asarray(made.strides, np.float32)[levels[rows]][:, None]
        centers = (boxes[:, :2] + np.stack([columns, lines], axis=1)[rows]) * steps
        with np.errstate(over="ignore"):
            boxes = np.concatenate([centers, np.exp(boxes[:, 2:]) * steps], axis=1)
    return Candidates(from_centers(boxes), scores, numbers, classes=value.shape[1] - 5)


DECODER = Decoder("YOLOX", Parameters, _decode, check=lambda made: check_strides(made.strides))
