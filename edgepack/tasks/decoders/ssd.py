"""ssd: an output of boxes and one of class scores; boxes as they are, or as steps from priors.

Outputs [1, n, 4] and [1, n, classes], in either order. Priors are boxes around every cell's middle, one cell of a
stride after the other: square ones of some sizes, as those of SSD-like face detectors
(github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB, vision/ssd/config/fd_config.py and
vision/utils/box_utils.py), or of any width and height, as in SSD (Liu et al. 2016, section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import (
    Candidates,
    Decoder,
    Wanted,
    activate,
    batch_of_one,
    cells,
    check_strides,
    choose,
    grids,
    points_of,
)


@dataclass(frozen=True)
class Parameters:
    """How boxes and scores are written.

    ``form`` of the boxes: left, top, right, bottom ("xyxy"), top first ("yxyx"), center and sides ("cxcywh").
    ``background`` says which class is none, -1 for none of them; it is left out and the others move up. ``sizes`` of
    squares, or ``anchors`` as widths and heights one after the other, in pixels of the input, has a list for each of
    ``strides``: boxes are then steps from priors by ``variances``. Squares end at the input's size.
    ``points`` names an output [1, n, points, 3] of x, y (in pixels of the input) and score, "" where there is none.
    """

    form: Literal["xyxy", "yxyx", "cxcywh"] = "xyxy"
    normalized: bool = True
    background: int = 0
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    strides: tuple[float, ...] = ()
    sizes: tuple[tuple[float, ...], ...] = ()
    anchors: tuple[tuple[float, ...], ...] = ()
    variances: tuple[float, ...] = (0.1, 0.2)
    points: str = ""

    @property
    def priors(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Width and height of each prior of a cell, a list for each stride; none where boxes are not steps."""
        if self.anchors:
            return tuple(tuple(zip(one[::2], one[1::2], strict=True)) for one in self.anchors)
        return tuple(tuple((size, size) for size in sizes) for sizes in self.sizes)


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    boxes, scores = _split(outputs)
    scores = activate(scores, made.activation)
    if 0 <= made.background < scores.shape[1]:
        scores = np.delete(scores, made.background, axis=1)
    rows, numbers, values = choose(scores, wanted)
    points = points_of(outputs, made.points, rows)
    sides = np.array([frame.input_width, frame.input_height] * 2, np.float32)
    if made.priors:
        found = from_centers(_from_priors(boxes, made, frame)[rows]) * sides
        return Candidates(found, values, numbers, points, classes=scores.shape[1])
    found = boxes[rows]
    found = found[:, [1, 0, 3, 2]] if made.form == "yxyx" else found
    found = from_centers(found) if made.form == "cxcywh" else found
    return Candidates(found * sides if made.normalized else found, values, numbers, points, classes=scores.shape[1])


def _split(outputs: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return boxes [n, 4] and scores [n, classes]; of two with 4 values a row the boxes are told by name, or first."""
    named = sorted(outputs, key=lambda name: not any(word in name.lower() for word in ("box", "loc")))
    outputs = {name: outputs[name] for name in named}
    values = [batch_of_one(v, 3, "[1, n, 4] or [1, n, classes]") for v in outputs.values() if v.ndim == 3]
    boxes = next((i for i, value in enumerate(values) if value.shape[1] == 4), None)
    if boxes is None or len(values) != 2 or len(values[0]) != len(values[1]):
        shapes = [list(value.shape) for value in outputs.values()]
        raise DataError(f"outputs {shapes} are not boxes [1, n, 4] and scores [1, n, classes]")
    return values[boxes], values[1 - boxes]


def _from_priors(steps: Array, made: Parameters, frame: Frame) -> Array:
    centers, sides = priors(made, frame, len(steps))
    with np.errstate(over="ignore"):
        return np.concatenate(
            [steps[:, :2] * made.variances[0] * sides + centers, np.exp(steps[:, 2:] * made.variances[1]) * sides],
            axis=1,
        )


def priors(made: Parameters, frame: Frame, count: int) -> tuple[Array, Array]:
    """Return middles and sides of the priors, 0 to 1, float32 [count, 2]. Raises ``DataError`` for another count."""
    columns, rows, levels = cells(grids(frame, made.strides, up=True))
    counts = np.array([len(sides) for sides in made.priors])
    cell = np.repeat(np.arange(len(columns)), counts[levels])
    if len(cell) != count:
        raise DataError(f"{count} boxes where the strides have {len(cell)} priors")
    stride = np.asarray(made.strides, np.float32)[levels[cell]]
    sides = np.concatenate([np.tile(one, (int((levels == i).sum()), 1)) for i, one in enumerate(made.priors)])
    input_sides = np.array([frame.input_width, frame.input_height], np.float32)
    middles = np.stack([columns[cell] + 0.5, rows[cell] + 0.5], axis=1) * stride[:, None] / input_sides
    scaled = sides.astype(np.float32) / input_sides
    return np.minimum(middles, 1), scaled if made.anchors else np.minimum(scaled, 1)


def _check(made: Parameters) -> None:
    if made.sizes and made.anchors:
        raise ConfigError("both sizes and anchors are given", hint="keep one of them")
    if any(len(one) % 2 for one in made.anchors):
        raise ConfigError("anchors are not pairs", hint="write width and height of each, one after the other")
    if made.priors:
        check_strides(made.strides)
    if len(made.priors) != len(made.strides) or len(made.variances) != 2:
        raise ConfigError(
            "strides do not fit sizes or anchors", hint="write a list of these for each stride, and two variances"
        )
    if any(not 1 <= len(one) <= 64 or any(side <= 0 for pair in one for side in pair) for one in made.priors):
        raise ConfigError("a size of priors is not above 0", hint="write sizes in pixels of the input")


DECODER = Decoder("SSD: boxes and scores", Parameters, _decode, check=_check)
