"""The decoders: how detectors' outputs are read as boxes, one module a family, in numpy alone.

To add one, add a module with a ``Decoder`` and a line to ``DECODERS``; an installed package adds its own by an entry
point in the group ``edgepack.decoders``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.extensions import Table
from edgepack.errors import ConfigError, DataError

if TYPE_CHECKING:
    from edgepack.specs.task import Frame
    from edgepack.specs.types import Array

MOST_VALUES = 1 << 16  # of any list of parameters


@dataclass(frozen=True)
class Wanted:
    """Which boxes are wanted: those whose score is above ``least``; with ``every`` one for each class above it."""

    least: float
    every: bool = False


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes in pixels of the model's input: ``corners`` [n, 4], ``scores`` [n], ``numbers`` of classes [n].

    ``points`` [n, k, 3] are x, y and a score where things have points. ``classes`` is how many classes the model has,
    None where its outputs do not show that.
    """

    corners: Array
    scores: Array
    numbers: Array
    points: Array | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Decoder:
    """One family of detectors.

    ``parameters`` is a dataclass of what differs within it. ``decode`` is given the outputs by name, in the model's
    order and with their batch axis of 1, the parameters, the frame (for the size of the input) and what is wanted.
    ``final`` says that no two boxes are of the same thing: nothing is to be suppressed. ``check`` raises
    ``ConfigError`` for parameters that cannot be meant.
    """

    title: str
    parameters: type[Any]
    decode: Callable[[Mapping[str, Array], Any, Frame, Wanted], Candidates]
    final: bool = False
    check: Callable[[Any], None] | None = None


DECODERS: Table[Decoder] = Table(
    "decoder",
    "edgepack.decoders",
    {
        "yolo": "edgepack.tasks.decoders.yolo:DECODER",
        "yolo-objectness": "edgepack.tasks.decoders.yolo_objectness:DECODER",
        "yolo-anchors": "edgepack.tasks.decoders.yolo_anchors:DECODER",
        "yolo-final": "edgepack.tasks.decoders.yolo_final:DECODER",
        "yolox": "edgepack.tasks.decoders.yolox:DECODER",
        "ssd": "edgepack.tasks.decoders.ssd:DECODER",
        "boxes-scores-classes": "edgepack.tasks.decoders.boxes_scores_classes:DECODER",
        "fastestdet": "edgepack.tasks.decoders.fastestdet:DECODER",
        "yunet": "edgepack.tasks.decoders.yunet:DECODER",
        "detr": "edgepack.tasks.decoders.detr:DECODER",
        "center-points": "edgepack.tasks.decoders.center_points:DECODER",
        "distributions": "edgepack.tasks.decoders.distributions:DECODER",
        "text-maps": "edgepack.tasks.decoders.text_maps:DECODER",
        "heat-maps": "edgepack.tasks.decoders.heat_maps:DECODER",
        "blaze": "edgepack.tasks.decoders.blaze:DECODER",
    },
    Decoder,
)


def choose(scores: Array, wanted: Wanted) -> tuple[Array, Array, Array]:
    """Return rows, classes and values of scores [n, classes] above ``wanted.least``: a row's best one, or every one."""
    if scores.shape[1] == 1:
        rows = np.flatnonzero(scores[:, 0] > wanted.least)
        return rows, np.zeros(len(rows), np.intp), scores[rows, 0]
    if wanted.every:
        rows, numbers = np.nonzero(scores > wanted.least)
        return rows, numbers, scores[rows, numbers]
    rows = np.flatnonzero(scores.max(axis=1) > wanted.least)
    part = scores[rows]
    numbers = part.argmax(axis=1)
    return rows, numbers, part[np.arange(len(rows)), numbers]


def sigmoid(values: Array) -> Array:
    """Return the logistic function of values."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values)))


def softmax(values: Array) -> Array:
    """Return the softmax along the last axis."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def activate(values: Array, activation: str) -> Array:
    """Return what "softmax", "sigmoid" or "none" makes of scores [n, classes]."""
    if activation == "softmax":
        return softmax(values)
    return sigmoid(values) if activation == "sigmoid" else values


def single(outputs: Mapping[str, Array], axes: int, what: str) -> Array:
    """Return the one output without its batch axis. Raises ``DataError`` where there are others."""
    if len(outputs) != 1:
        names = ", ".join(outputs)
        raise DataError(f"the decoder reads one output, {what}; the model has {names}", hint="choose another decoder")
    value = next(iter(outputs.values()))
    return batch_of_one(value, axes, what)


def batch_of_one(value: Array, axes: int, what: str) -> Array:
    """Return an output without its batch axis of 1. Raises ``DataError`` where it is of another rank."""
    if value.ndim != axes or value.shape[0] != 1:
        raise DataError(
            f"an output of the shape {list(value.shape)} is not {what}", hint="choose another decoder, or batch 1"
        )
    result: Array = value[0]
    return result


def points_of(outputs: Mapping[str, Array], name: str, rows: Array) -> Array | None:
    """Return the points [rows, k, 3] that an output of a name gives to some rows; None where there is no name."""
    if not name:
        return None
    if name not in outputs:
        raise DataError(f"the model has no output {name!r}", hint="outputs: " + ", ".join(outputs))
    value = batch_of_one(outputs[name], 4, "points [1, n, points, 3]")
    if value.shape[2] != 3 or (len(rows) and rows.max() >= len(value)):
        raise DataError(f"an output of the shape {list(outputs[name].shape)} is not points [1, n, points, 3]")
    result: Array = value[rows]
    return result


def cells(sides: Sequence[tuple[int, int]]) -> tuple[Array, Array, Array]:
    """Return column, row (float32) and level of every cell of grids with (rows, columns), one after the other."""
    columns = [np.tile(np.arange(w, dtype=np.float32), h) for h, w in sides]
    rows = [np.repeat(np.arange(h, dtype=np.float32), w) for h, w in sides]
    levels = [np.full(h * w, i) for i, (h, w) in enumerate(sides)]
    return np.concatenate(columns), np.concatenate(rows), np.concatenate(levels)


def grids(frame: Frame, strides: Sequence[float], up: bool = False) -> list[tuple[int, int]]:
    """Return (rows, columns) of the grids that an input of a frame's size has at some strides."""
    sides = frame.input_height, frame.input_width
    counts = [[-(-side // int(s)) if up else side // int(s) for side in sides] for s in strides]
    return [(rows, columns) for rows, columns in counts]


def check_unread(count: int) -> None:
    """Raise ``ConfigError`` unless so many values of a candidate can be left out."""
    if not 0 <= count <= MOST_VALUES:
        raise ConfigError(
            f"unread = {count}", hint="write how many last values of a candidate are not read, such as 32"
        )


def check_strides(strides: Sequence[float]) -> None:
    """Raise ``ConfigError`` unless strides are a few whole numbers above 0."""
    if not 1 <= len(strides) <= 16 or any(s < 1 or s > 4096 or s != int(s) for s in strides):
        raise ConfigError(f"strides = {list(strides[:8])}", hint="write whole numbers, such as [8, 16, 32]")
