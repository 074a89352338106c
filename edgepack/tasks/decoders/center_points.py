"""center-points: a heat map for each class whose peaks are things, with maps of their sides and of the peak's offset.

Outputs [1, classes, h, w], [1, 2, h, w] of width and height in cells and, if there is one, [1, 2, h, w] of offsets, in
this order. A peak is a cell that none of its 8 neighbours exceeds. Source: github.com/xingyizhou/CenterNet,
src/lib/models/decode.py (ctdet_decode).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, batch_of_one, sigmoid


@dataclass(frozen=True)
class Parameters:
    """``logits`` says that the heat map has not gone through the sigmoid yet."""

    logits: bool = False


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    maps = [batch_of_one(v, 4, "a map [1, channels, h, w]") for v in outputs.values()]
    heat, *others = maps
    if not 1 <= len(others) <= 2 or any(v.shape != (2, *heat.shape[1:]) for v in others):
        raise DataError("outputs are not a heat map and maps [1, 2, h, w] of sides and offsets, in this order")
    heat = sigmoid(heat) if made.logits else heat
    classes, rows, columns = np.nonzero((heat > wanted.least) & (heat >= _around(heat)))
    sides = others[0][:, rows, columns].T
    offset = others[1][:, rows, columns].T if others[1:] else 0.5
    step = np.array([frame.input_width / heat.shape[2], frame.input_height / heat.shape[1]], np.float32)
    centers = np.stack([columns, rows], axis=1) + offset
    found = np.concatenate([centers * step, sides * step], axis=1).astype(np.float32)
    return Candidates(from_centers(found), heat[classes, rows, columns], classes, classes=len(heat))


def _around(heat: Array) -> Array:
    """Return the highest of each cell's 3 x 3."""
    wide = np.pad(heat, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    height, width = heat.shape[1:]
    result: Array = np.maximum.reduce([wide[:, y : y + height, x : x + width] for y in range(3) for x in range(3)])
    return result


DECODER = Decoder("CenterNet", Parameters, _decode, final=True)
