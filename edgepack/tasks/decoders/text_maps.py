"""text-maps: a map of how surely each pixel is text (DBNet, PP-OCR detection); each area of it is a line of text.

Output [1, 1, h, w], probabilities. Areas are of pixels above ``least`` that touch, by a corner too; a line's score is
the mean of the map in the box around its area, and the box is wider than the area on all sides by area * ``grow`` /
circumference, as the network is trained on areas that are smaller than the text. Source:
github.com/PaddlePaddle/PaddleOCR, ppocr/postprocess/db_postprocess.py (``boxes_from_bitmap``), where boxes may be
turned: here they are upright.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, single


@dataclass(frozen=True)
class Parameters:
    """``smallest`` is the least side of an area, in pixels of the map."""

    least: float = 0.3
    grow: float = 1.5
    smallest: float = 3.0


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    maps = single(outputs, 4, "[1, 1, h, w]")
    if maps.shape[0] != 1 or not maps.size:
        raise DataError(f"an output of the shape [1, {', '.join(map(str, maps.shape))}] is not one map [1, 1, h, w]")
    found = areas(maps[0] > made.least)
    found = found[(found[:, 2:] - found[:, :2]).min(axis=1) >= made.smallest]
    scores = _means(maps[0], found).astype(np.float32)
    kept = np.flatnonzero(scores > wanted.least)
    sides = np.array([frame.input_width / maps.shape[2], frame.input_height / maps.shape[1]] * 2, np.float32)
    corners = _grown(found[kept], made.grow) * sides
    return Candidates(corners.astype(np.float32), scores[kept], np.zeros(len(kept), np.intp), classes=1)


def areas(mask: Array) -> Array:
    """Return left, top, right, bottom [n, 4] around each area of a mask [h, w]; its pixels touch, by a corner too."""
    rows, begins, ends = _runs(mask)
    area = _joined(rows, begins, ends, mask.shape[1])
    _, numbers = np.unique(area, return_inverse=True)
    count = int(numbers.max(initial=-1)) + 1
    low, high = np.full((count, 2), np.iinfo(np.int64).max), np.zeros((count, 2), np.int64)
    for place, least, most in ((0, begins, ends), (1, rows, rows + 1)):
        np.minimum.at(low[:, place], numbers, least)
        np.maximum.at(high[:, place], numbers, most)
    return np.concatenate([low, high], axis=1)


def _runs(mask: Array) -> tuple[Array, Array, Array]:
    """Return the row, the begin and the end of all runs of set pixels, row by row."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, begins = np.nonzero(steps == 1)
    return rows, begins, np.nonzero(steps == -1)[1]


def _joined(rows: Array, begins: Array, ends: Array, width: int) -> Array:
    """Return for each run the number of the first run of its area."""
    # places in one line of all rows, with a gap between them that nothing touches across
    line = (rows - 1) * (width + 2)
    first = np.searchsorted(rows * (width + 2) + ends, line + begins)
    last = np.searchsorted(rows * (width + 2) + begins, line + ends, side="right")
    counts = np.maximum(last - first, 0)
    one = np.repeat(np.arange(len(rows)), counts)
    other = np.repeat(first, counts) + np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
    area = np.arange(len(rows))
    while (high := np.maximum(area[one], area[other])).size and (
        high != (low := np.minimum(area[one], area[other]))
    ).any():
        np.minimum.at(area, high, low)
        while (area != area[area]).any():
            area = area[area]
    return area


def _means(values: Array, boxes: Array) -> Array:
    """Return the mean of a map [h, w] in boxes [n, 4]; what is not a number is 0."""
    known = np.where(np.isfinite(values), values, 0).astype(np.float64)
    sums = np.pad(known.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    left, top, right, bottom = boxes.T
    whole = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    result: Array = whole / np.maximum((right - left) * (bottom - top), 1)
    return result


def _grown(boxes: Array, grow: float) -> Array:
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    more = (width * height * grow / (2 * (width + height)))[:, None]
    return np.concatenate([boxes[:, :2] - more, boxes[:, 2:] + more], axis=1)


def _check(made: Parameters) -> None:
    if not 0 <= made.least < 1 or not 0 <= made.grow <= 10 or not 0 <= made.smallest <= 1000:
        raise ConfigError(
            f"least = {made.least}, grow = {made.grow}, smallest = {made.smallest}",
            hint="least is 0 to 1, grow 0 to 10, smallest a number of pixels",
        )


DECODER = Decoder("DBNet, PP-OCR detection: areas of text", Parameters, _decode, final=True, check=_check)
