"""heat-maps: one map for each point of the one thing in the picture; a point is where its map is highest.

Output [1, points, h, w]. A peak is moved a quarter of a cell towards its higher neighbour. Source:
github.com/leoxiaobin/deep-high-resolution-net.pytorch, lib/core/inference.py (get_final_preds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, sigmoid, single


@dataclass(frozen=True)
class Parameters:
    """``logits`` says that the maps have not gone through the sigmoid yet.

    ``middle`` is where in a cell the point of its peak lies: 0.5 in its middle; 0 where targets were drawn at
    ``int(x / stride + 0.5)``, as HRNet's (lib/dataset/JointsDataset.py, ``generate_target``).
    """

    logits: bool = False
    middle: float = 0.5


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    maps = single(outputs, 4, "[1, points, h, w]")
    maps = sigmoid(maps) if made.logits else maps
    count, height, width = maps.shape
    best = maps.reshape(count, -1).argmax(axis=1)
    rows, columns = best // width, best % width
    scores = maps[np.arange(count), rows, columns]
    x = columns + 0.25 * _slope(maps, rows, columns, 0, 1) + made.middle
    y = rows + 0.25 * _slope(maps, rows, columns, 1, 0) + made.middle
    points = np.stack([x * frame.input_width / width, y * frame.input_height / height, scores], axis=1)
    score = scores.mean(keepdims=True)
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    found = np.concatenate([low, high])[None].astype(np.float32)
    kept = np.flatnonzero(score > wanted.least)
    return Candidates(found[kept], score[kept], np.zeros(len(kept), np.intp), points[None][kept])


def _slope(maps: Array, rows: Array, columns: Array, down: int, across: int) -> Array:
    """Return -1, 0 or 1: which neighbour of each peak is higher, 0 at the edge."""
    count, height, width = maps.shape
    every = np.arange(count)
    inside = (rows >= down) & (rows + down < height) & (columns >= across) & (columns + across < width)
    after = maps[every, np.minimum(rows + down, height - 1), np.minimum(columns + across, width - 1)]
    before = maps[every, np.maximum(rows - down, 0), np.maximum(columns - across, 0)]
    return np.where(inside, np.sign(after - before), 0)


def _check(made: Parameters) -> None:
    if not 0 <= made.middle <= 1:
        raise ConfigError(f"middle = {made.middle}", hint="write 0 to 1")


DECODER = Decoder("heat maps of points", Parameters, _decode, final=True, check=_check)
