"""semantic-segmentation: the class of every pixel, at the picture's own size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Answer, Mask
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.draw import draw_mask
from edgepack.tasks.pictures import prepare_picture

_MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Settings:
    """How a map becomes classes.

    ``layout`` of an output [1, classes, h, w] is "NCHW", of [1, h, w, classes] "NHWC". An output without a class axis
    has the classes already; one with a single channel has a score of the second class, which is right from ``least``
    on. ``ignore`` is the value of pixels in mask files that are of no class; ``values`` are those of the classes there,
    in their order, where they are not 0, 1, 2 and so on.
    """

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    least: float = 0.5
    ignore: int = 255
    values: tuple[int, ...] = ()


def _answer(task: Task, outputs: Mapping[str, Array], frame: Frame, _measuring: bool) -> Answer:
    settings = read_settings(Settings, task.settings)
    scores = _scores(next(iter(outputs.values())), settings)
    height, width = frame.height or scores.shape[-2], frame.width or scores.shape[-1]
    if height * width > _MOST_PIXELS:
        raise DataError(f"a mask of {width}x{height} pixels is larger than any picture")
    rows, columns = _places(height, width, frame, (scores.shape[-2], scores.shape[-1]))
    if scores.ndim == 2:  # classes already: the nearest one
        labels = scores[np.rint(rows).astype(np.intp)[:, None], np.rint(columns).astype(np.intp)[None]]
        return Mask(np.clip(labels, 0, Mask.IGNORED - 1).astype(np.uint16), task.classes)
    return Mask(_highest(scores, rows, columns, settings.least), task.classes)


def _scores(value: Array, settings: Settings) -> Array:
    """Return scores [classes, h, w], or classes [h, w] where the model gives these."""
    if value.ndim == 4 and value.shape[0] == 1 and value.dtype.kind in "iu" and 1 in value.shape[1:]:
        value = value.reshape(1, *[side for side in value.shape[1:] if side != 1])
    if value.ndim == 3 and value.shape[0] == 1:
        return np.asarray(value[0])
    if value.ndim != 4 or value.shape[0] != 1:
        raise DataError(f"an output of the shape {list(value.shape)} is not a map [1, classes, h, w]")
    result: Array = value[0] if settings.layout == "NCHW" else value[0].transpose(2, 0, 1)
    return result


def _places(height: int, width: int, frame: Frame, sides: tuple[int, int]) -> tuple[Array, Array]:
    """Return where the middle of each row and column of the picture lies in the map, in its cells."""
    down = sides[0] / (frame.input_height or sides[0])
    across = sides[1] / (frame.input_width or sides[1])
    rows = ((np.arange(height) + 0.5) * frame.scale_y + frame.offset_y) * down - 0.5
    columns = ((np.arange(width) + 0.5) * frame.scale_x + frame.offset_x) * across - 0.5
    return np.clip(rows, 0, sides[0] - 1), np.clip(columns, 0, sides[1] - 1)


def _highest(scores: Array, rows: Array, columns: Array, least: float) -> Array:
    """Return the highest class at each place, of scores between cells in proportion (bilinear), one class at a time.

    Memory is that of two pictures, whatever the number of classes.
    """
    row, below = np.floor(rows).astype(np.intp), (rows % 1).astype(np.float32)[:, None]
    column, beside = np.floor(columns).astype(np.intp), (columns % 1).astype(np.float32)[None]
    next_row, next_column = np.minimum(row + 1, scores.shape[1] - 1), np.minimum(column + 1, scores.shape[2] - 1)
    highest, labels = None, np.zeros((len(rows), len(columns)), np.uint16)
    for number, plane in enumerate(scores):
        down = plane[row] * (1 - below) + plane[next_row] * below
        found = down[:, column] * (1 - beside) + down[:, next_column] * beside
        if len(scores) == 1:
            return np.asarray(found >= least, np.uint16)
        if highest is None:
            highest = found
        else:
            better = found > highest
            labels[better] = number
            highest[better] = found[better]
    return labels


def _check(task: Task) -> None:
    no_more(task)
    settings = read_settings(Settings, task.settings)
    if not 0 <= settings.ignore <= Mask.IGNORED:
        raise ConfigError(f"ignore = {settings.ignore}", hint="it is a value of a pixel, such as 255")
    both = settings.ignore in settings.values and "ignore" in task.settings
    if both or len(set(settings.values)) != len(settings.values):
        raise ConfigError(f"values = {list(settings.values)}", hint="each class has one, and ignore is none of them")


TASK = TaskKind(
    "the class of every pixel", "a picture", prepare_picture, _answer, _check, ("miou", "pixel-accuracy"), draw_mask
)
