"""blaze: MediaPipe's detectors of faces, palms and people (BlazeFace): boxes and points as steps from anchors.

Outputs [1, n, 4 + 2 * points], in pixels of the input from the anchor on: middle's x and y, width, height, and x and
y of each point; and [1, n, 1], scores before the sigmoid. Anchors are the middles of cells, those of a cell in a row.
Source: github.com/google-ai-edge/mediapipe, mediapipe/calculators/tensor/tensors_to_detections_calculator.cc and
mediapipe/calculators/tflite/ssd_anchors_calculator.cc, with fixed_anchor_size and reverse_output_order, as its
face, palm and pose detectors have them. MediaPipe blends boxes that overlap; here the best is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, batch_of_one, cells, check_strides, grids, sigmoid

_SIDES = 4
_MOST_EACH = 64


@dataclass(frozen=True)
class Parameters:
    """The strides of the grids, and how many anchors each of their cells has."""

    strides: tuple[float, ...] = (8.0, 16.0)
    each: tuple[float, ...] = (2.0, 6.0)


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    boxes, scores = told_apart({name: value.shape for name, value in outputs.items()})
    middles = anchors(made, frame, outputs[boxes].shape[1])
    steps = batch_of_one(outputs[boxes], 3, "[1, n, 4 + 2 * points]")
    sure = sigmoid(batch_of_one(outputs[scores], 3, "[1, n, 1]")[:, 0])
    rows = np.flatnonzero(sure > wanted.least)
    middle, step = middles[rows], steps[rows]
    found = from_centers(np.concatenate([middle + step[:, :2], step[:, 2:_SIDES]], axis=1))
    places = step[:, _SIDES:].reshape(len(rows), steps.shape[1] // 2 - 2, 2) + middle[:, None]
    own = np.broadcast_to(sure[rows][:, None, None], (*places.shape[:2], 1))
    points = np.concatenate([places, own], axis=2) if places.shape[1] else None
    return Candidates(found, sure[rows], np.zeros(len(rows), np.intp), points, classes=1)


def told_apart(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str]:
    """Return the names of the outputs with boxes and with scores. Raises ``DataError`` where they are others."""
    boxes = [name for name, s in shapes.items() if len(s) == 3 and s[2] >= _SIDES and s[2] % 2 == 0]
    scores = [name for name, s in shapes.items() if len(s) == 3 and s[2] == 1]
    if len(shapes) != 2 or len(boxes) != 1 or len(scores) != 1 or shapes[boxes[0]][:2] != shapes[scores[0]][:2]:
        told = ", ".join(str(list(shape)) for shape in shapes.values())
        raise DataError(f"outputs {told} are not boxes [1, n, 4 + 2 * points] and scores [1, n, 1]")
    return boxes[0], scores[0]


def anchors(made: Parameters, frame: Frame, count: int) -> Array:
    """Return x and y of the anchors in pixels of the input [count, 2]. Raises ``DataError`` for another count."""
    columns, rows, levels = cells(grids(frame, made.strides))
    cell = np.repeat(np.arange(len(columns)), np.asarray(made.each, np.intp)[levels])
    if len(cell) != count:
        raise DataError(
            f"{count} boxes where strides {list(made.strides)} with {list(made.each)} anchors a cell have {len(cell)}",
            hint="correct strides and each in [task.parameters]",
        )
    stride = np.asarray(made.strides, np.float32)[levels[cell]][:, None]
    return (np.stack([columns[cell], rows[cell]], axis=1) + np.float32(0.5)) * stride


def _check(made: Parameters) -> None:
    check_strides(made.strides)
    known = all(1 <= each <= _MOST_EACH and each == int(each) for each in made.each)
    if len(made.each) != len(made.strides) or not known:
        raise ConfigError(f"each = {list(made.each)[:8]}", hint="write how many anchors a cell of each stride has")


DECODER = Decoder("BlazeFace and others of MediaPipe", Parameters, _decode, check=_check)
