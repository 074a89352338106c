"""distributions: PicoDet, NanoDet and others of GFL: each side of a box is a distribution over distances.

Outputs [1, n, classes] and [1, n, 4 * bins] for each stride (PicoDet), or both side by side for all strides in one
output [1, n, classes + 4 * bins] (NanoDet). A side is the mean of its distribution, in strides, from the cell's point.
Sources: github.com/PaddlePaddle/PaddleDetection, deploy/third_engine/demo_onnxruntime/infer_demo.py;
github.com/RangiLyu/nanodet, nanodet/model/head/nanodet_plus_head.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.decoders import (
    Candidates,
    Decoder,
    Wanted,
    batch_of_one,
    cells,
    check_strides,
    choose,
    grids,
    sigmoid,
    softmax,
)

_MOST_BINS = 256


@dataclass(frozen=True)
class Parameters:
    """``middle`` is where a cell's point lies in it: 0.5 in PicoDet, 0 in NanoDet-Plus."""

    strides: tuple[float, ...] = (8.0, 16.0, 32.0, 64.0)
    bins: int = 8
    middle: float = 0.5
    logits: bool = False


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    scores, sides = _split([batch_of_one(v, 3, "[1, n, values]") for v in outputs.values()], 4 * made.bins)
    columns, lines, levels = cells(grids(frame, made.strides, up=True))
    if not len(columns) == len(scores) == len(sides):
        found = f"{len(scores)} scores and {len(sides)} boxes"
        raise DataError(f"{found} where grids of strides {list(made.strides)} have {len(columns)}")
    rows, numbers, values = choose(sigmoid(scores) if made.logits else scores, wanted)
    steps = np.asarray(made.strides, np.float32)[levels[rows]][:, None]
    chances = softmax(sides[rows].reshape(-1, 4, made.bins))
    away = (chances @ np.arange(made.bins, dtype=np.float32)) * steps
    points = (np.stack([columns[rows], lines[rows]], axis=1) + np.float32(made.middle)) * steps
    corners = np.concatenate([points - away[:, :2], points + away[:, 2:]], axis=1)
    return Candidates(corners, values, numbers, classes=scores.shape[1])


def _split(values: list[Array], width: int) -> tuple[Array, Array]:
    """Return scores [n, classes] and distributions [n, 4 * bins] of all strides, the finest first."""
    if len(values) == 1 and values[0].shape[1] > width:
        return values[0][:, :-width], values[0][:, -width:]
    sides = sorted((v for v in values if v.shape[1] == width), key=lambda v: -len(v))
    scores = sorted((v for v in values if v.shape[1] != width), key=lambda v: -len(v))
    if sides and not scores:  # as many classes as values of a box: scores come first
        half = len(values) // 2
        scores, sides = values[:half], values[half:]
    if sides and len({v.shape[1] for v in scores}) == 1:
        return np.concatenate(scores), np.concatenate(sides)
    raise DataError(f"outputs are not scores and distributions of {width} values", hint="see bins of the decoder")


def _check(made: Parameters) -> None:
    check_strides(made.strides)
    if not 2 <= made.bins <= _MOST_BINS or not 0 <= made.middle <= 1:
        raise ConfigError(f"bins = {made.bins}, middle = {made.middle}", hint="bins is 2 or more, middle 0 to 1")


DECODER = Decoder("PicoDet, NanoDet, GFL", Parameters, _decode, check=_check)
