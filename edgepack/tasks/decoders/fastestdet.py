"""fastestdet: one map with objectness, box and class probabilities of every cell.

Output [1, 5 + classes, h, w]. Source: github.com/dog-qiuqiu/FastestDet, utils/tool.py (handle_preds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, choose, sigmoid, single


@dataclass(frozen=True)
class Parameters:
    """A score is objectness to the power of ``object_power`` times the class's to the power of ``class_power``."""

    object_power: float = 0.6
    class_power: float = 0.4


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    value = single(outputs, 4, "[1, 5 + classes, h, w]")
    if len(value) < 6:
        raise DataError(f"{len(value)} values a cell are too few for objectness, 4 sides and a class")
    height, width = value.shape[1:]
    flat = value.reshape(len(value), -1).T
    with np.errstate(invalid="ignore"):  # an int8 model may go a little below 0
        of_object = np.maximum(flat[:, 0:1], 0) ** made.object_power
        scores = of_object * np.maximum(flat[:, 5:], 0) ** made.class_power
    rows, numbers, values = choose(scores, wanted)
    box = flat[rows, 1:5]
    cell = np.stack([rows % width, rows // width], axis=1).astype(np.float32)
    sides = np.array([frame.input_width, frame.input_height], np.float32)
    centers = (np.tanh(box[:, :2]) + cell) / np.array([width, height], np.float32)
    found = from_centers(np.concatenate([centers * sides, sigmoid(box[:, 2:]) * sides], 1))
    return Candidates(found, values, numbers, classes=len(value) - 5)


DECODER = Decoder("FastestDet", Parameters, _decode)
