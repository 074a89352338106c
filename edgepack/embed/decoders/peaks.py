"""Decoders of maps whose peaks are things or points: center-points, heat-maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.embed.decoders import POINT_VALUES, SIDES, Decoded, Raw, from_centers, input_sides, refuse, single

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators

_AROUND = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
_FLOAT = 1  # TensorProto.FLOAT of onnx.proto


def center_points(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.center_points``: of all peaks the best ``raw.most``, each of its own class."""
    heat, others, (classes, height, width) = _heat_and_maps(raw)
    heat = made.make("Sigmoid", [heat]) if raw.parameters.logits else heat
    peak = made.make("Equal", [heat, made.make("MaxPool", [heat], **_AROUND)])
    alone = made.make("Where", [peak, heat, made.const(0.0)])
    cells = height * width
    flat = made.make("Reshape", [alone, made.const([1, classes * cells], "int64")])
    count = min(raw.most, classes * cells)
    scores, place = made.highest(flat, count, classes * cells)
    place = made.squeeze(place, 0)
    number = made.make("Div", [place, made.const(cells, "int64")])
    cell = made.make("Sub", [place, made.make("Mul", [number, made.const(cells, "int64")])])
    step = made.const(input_sides(raw) / np.array([width, height], np.float32))
    sides, *offsets = (_at(made, name, cells, cell) for name in others)
    axes = _column_and_row(made, cell, width)
    corner = made.make("Concat", [made.unsqueeze(made.make("Cast", [at], to=_FLOAT), 1) for at in axes], axis=1)
    centers = made.make("Add", [made.unsqueeze(corner, 0), offsets[0] if offsets else made.const(0.5)])
    boxes = made.make("Concat", [made.make("Mul", [part, step]) for part in (centers, sides)], axis=2)
    numbers = made.unsqueeze(number, 0)
    return Decoded(from_centers(made, boxes), made.unsqueeze(scores, 2), count, classes, numbers=numbers)


def _heat_and_maps(raw: Raw) -> tuple[str, list[str], tuple[int, ...]]:
    """Return the names of the heat map and of the other maps, and classes, height and width of the first."""
    (heat, shape), *others = raw.outputs.items()
    if len(shape) != 4 or not 1 <= len(others) <= 2 or any(s != (1, 2, *shape[2:]) for _, s in others):
        raise refuse("outputs are not a heat map and maps [1, 2, h, w] of sides and offsets, in this order")
    return heat, [name for name, _ in others], shape[1:]


def _at(made: Operators, name: str, cells: int, cell: str) -> str:
    """Return the two values [1, k, 2] of a map [1, 2, h, w] in some cells [k]."""
    flat = made.make("Reshape", [name, made.const([1, 2, cells], "int64")])
    return made.make("Transpose", [made.make("Gather", [flat, cell], axis=2)], perm=(0, 2, 1))


def _column_and_row(made: Operators, cell: str, width: int) -> tuple[str, str]:
    """Return the column and the row of cells, int64."""
    row = made.make("Div", [cell, made.const(width, "int64")])
    return made.make("Sub", [cell, made.make("Mul", [row, made.const(width, "int64")])]), row


def heat_maps(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.heat_maps``."""
    name, (_, points, height, width) = single(raw, 4)
    name = made.make("Sigmoid", [name]) if raw.parameters.logits else name
    cells = height * width
    maps = made.make("Reshape", [name, made.const([points, cells], "int64")])
    best = made.make("ArgMax", [maps], axis=1, keepdims=0)
    flat = made.make("Reshape", [name, made.const([points * cells], "int64")])
    place = made.make("Add", [best, made.const(np.arange(points) * cells, "int64")])
    scores = made.make("Gather", [flat, place], axis=0)
    parts = []
    for at, step, size, side in zip(
        _column_and_row(made, best, width), (1, width), (width, height), input_sides(raw), strict=True
    ):
        slope = _slope(made, flat, place, at, step, size, points * cells)
        moved = made.make("Add", [made.make("Cast", [at], to=_FLOAT), made.make("Mul", [slope, made.const(0.25)])])
        inside = made.make("Add", [moved, made.const(raw.parameters.middle)])
        parts.append(made.make("Mul", [inside, made.const(side / np.float32(size))]))
    ends = [made.make(operator, [part]) for operator in ("ReduceMin", "ReduceMax") for part in parts]
    corners = made.make("Reshape", [made.make("Concat", ends, axis=0), made.const([1, 1, SIDES], "int64")])
    whole = made.make("Concat", [made.unsqueeze(part, 1) for part in (*parts, scores)], axis=1)
    every = made.make("Reshape", [whole, made.const([1, 1, points * POINT_VALUES], "int64")])
    score = made.make("Reshape", [made.make("ReduceMean", [scores]), made.const([1, 1, 1], "int64")])
    return Decoded(corners, score, 1, 1, every, points)


def _slope(made: Operators, flat: str, place: str, at: str, step: int, size: int, count: int) -> str:
    """Return -1, 0 or 1: which neighbour of each peak is higher along an axis of ``size`` cells, 0 at its ends.

    ``place`` is where a peak is in all ``count`` values, ``at`` where it is along the axis.
    """
    shift, zero, last = (made.const(value, "int64") for value in (step, 0, count - 1))
    after = made.make("Gather", [flat, made.make("Min", [made.make("Add", [place, shift]), last])], axis=0)
    before = made.make("Gather", [flat, made.make("Max", [made.make("Sub", [place, shift]), zero])], axis=0)
    slope = made.make("Sign", [made.make("Sub", [after, before])])
    low = made.make("Greater", [at, zero])
    high = made.make("Less", [at, made.const(size - 1, "int64")])
    return made.make("Where", [made.make("And", [low, high]), slope, made.const(0.0)])
