"""Detectors' decoders as ONNX operators, a module for each form of outputs: what they are given and what they make.

The same arithmetic as ``tasks/decoders``, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.errors import ConfigError
from edgepack.tasks.decoders import cells, grids

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators
    from edgepack.specs.task import Frame

SIDES = 4
POINT_VALUES = 3  # x, y and a score


@dataclass(frozen=True)
class Raw:
    """What is decoded: the model's outputs by name with their shapes, the decoder's parameters, and the input's size.

    A free batch has become 1. ``most`` candidates are looked at: a decoder that has many more may choose the best.
    """

    outputs: Mapping[str, tuple[int, ...]]
    parameters: Any
    frame: Frame
    most: int


@dataclass(frozen=True)
class Decoded:
    """The names of corners [1, ``count``, 4] and scores [1, ``count``, ``classes``].

    ``points`` names x, y and score of a thing's ``each`` points, [1, ``count``, 3 * ``each``]; "" where it has none.
    ``numbers`` names the classes [1, ``count``] where each candidate is of one; its scores are [1, ``count``, 1] then.
    """

    corners: str
    scores: str
    count: int
    classes: int
    points: str = ""
    each: int = 0
    numbers: str = ""


def refuse(what: str) -> ConfigError:
    """Return the error for outputs or parameters that the operators are not made for."""
    return ConfigError(f"--embed postprocessing: {what}", hint="choose another decoder, or leave postprocessing out")


def single(raw: Raw, axes: int) -> tuple[str, tuple[int, ...]]:
    """Return the one output and its shape. Raises ``ConfigError`` where there are others."""
    if len(raw.outputs) != 1 or len(next(iter(raw.outputs.values()))) != axes:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in raw.outputs.items())
        raise refuse(f"the decoder does not read {shapes}")
    return next(iter(raw.outputs.items()))


def input_sides(raw: Raw, repeats: int = 1) -> np.ndarray:
    """Return width and height of the input, so many times."""
    return np.array([raw.frame.input_width, raw.frame.input_height] * repeats, np.float32)


def to_pixels(made: Operators, boxes: str, raw: Raw, *, normalized: bool) -> str:
    """Return boxes of 0 to 1 in pixels of the input; others as they are."""
    return made.make("Mul", [boxes, made.const(input_sides(raw, 2))]) if normalized else boxes


def from_centers(made: Operators, boxes: str) -> str:
    """Return corners of boxes that are center x, center y, width and height."""
    center = made.slice(boxes, 2, 0, 2)
    half = made.make("Mul", [made.slice(boxes, 2, 2, 4), made.const(0.5)])
    return made.make("Concat", [made.make("Sub", [center, half]), made.make("Add", [center, half])], axis=2)


def with_objectness(made: Operators, rows: str, values: int) -> str:
    """Return class scores times objectness of rows that are 4 sides, objectness and scores."""
    return made.make("Mul", [made.slice(rows, 2, 5, values), made.slice(rows, 2, 4, 5)])


def with_score(made: Operators, places: str, scores: str, count: int, each: int) -> str:
    """Return points [1, n, 3 * ``each``] of places [1, n, 2 * ``each``] and their things' scores [1, n, 1]."""
    apart = made.make("Reshape", [places, made.const([1, count, each, 2], "int64")])
    own = made.make("Tile", [made.unsqueeze(scores, 3), made.const([1, 1, each, 1], "int64")])
    whole = made.make("Concat", [apart, own], axis=3)
    return made.make("Reshape", [whole, made.const([1, count, each * POINT_VALUES], "int64")])


def activated(made: Operators, name: str, activation: str) -> str:
    """Return what "softmax", "sigmoid" or "none" makes of scores [1, n, classes]."""
    if activation == "softmax":
        return made.make("Softmax", [name], axis=2)
    return made.make("Sigmoid", [name]) if activation == "sigmoid" else name


def cell_places(raw: Raw, strides: Sequence[float], count: int, *, up: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return column and row [1, ``count``, 2] of each cell of all grids and its stride [1, ``count``, 1].

    Raises ``ConfigError`` where the grids have another number of cells.
    """
    columns, rows, levels = cells(grids(raw.frame, strides, up=up))
    if len(columns) != count:
        raise ConfigError(
            f"{count} boxes where grids of strides {list(strides)} have {len(columns)}",
            hint="correct strides in [task.parameters]",
        )
    return np.stack([columns, rows], axis=1)[None], np.asarray(strides, np.float32)[levels][None, :, None]


def concat_rows(made: Operators, names: Sequence[str]) -> str:
    """Return tensors [1, n, values] one after the other."""
    return names[0] if len(names) == 1 else made.make("Concat", names, axis=1)
