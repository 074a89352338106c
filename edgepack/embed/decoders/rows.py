"""Decoders of a row for each candidate: yolo, yolo-objectness, yolox, blaze."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.embed.decoders import (
    POINT_VALUES,
    SIDES,
    Decoded,
    Raw,
    cell_places,
    from_centers,
    input_sides,
    refuse,
    single,
    to_pixels,
    with_objectness,
    with_score,
)
from edgepack.errors import ConfigError, DataError
from edgepack.tasks.decoders.blaze import anchors, told_apart

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators


def yolo(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.yolo``."""
    name, shape = single(raw, 3)
    rows = name if shape[1] >= shape[2] else made.make("Transpose", [name], perm=(0, 2, 1))
    count, values = max(shape[1:]), min(shape[1:]) - raw.parameters.unread
    last = values - raw.parameters.points * raw.parameters.point_values
    if last < 5:
        raise refuse(f"{values} values a box are too few for 4 sides, a class and {raw.parameters.points} points")
    boxes = to_pixels(made, made.slice(rows, 2, 0, 4), raw, normalized=raw.parameters.normalized)
    points = _points(made, made.slice(rows, 2, last, values), raw, count) if raw.parameters.points else ""
    return Decoded(
        from_centers(made, boxes), made.slice(rows, 2, 4, last), count, last - 4, points, raw.parameters.points
    )


def _points(made: Operators, values: str, raw: Raw, count: int) -> str:
    """Return x, y and score of each point; the score is 1 where the model gives none."""
    each, wide = raw.parameters.points, raw.parameters.point_values
    if raw.parameters.normalized:
        sides = np.append(input_sides(raw), np.float32(1))[:wide]
        values = made.make("Mul", [values, made.const(np.tile(sides, each))])
    if wide == POINT_VALUES:
        return values
    apart = made.make("Reshape", [values, made.const([1, count, each, wide], "int64")])
    ones = made.const(np.ones((1, count, each, 1), np.float32))
    whole = made.make("Concat", [apart, ones], axis=3)
    return made.make("Reshape", [whole, made.const([1, count, each * POINT_VALUES], "int64")])


def yolo_objectness(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.yolo_objectness``."""
    name, shape = single(raw, 3)
    values = shape[2] - raw.parameters.unread
    boxes = to_pixels(made, made.slice(name, 2, 0, 4), raw, normalized=raw.parameters.normalized)
    return Decoded(from_centers(made, boxes), with_objectness(made, name, values), shape[1], values - 5)


def yolox(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.yolox``."""
    name, shape = single(raw, 3)
    scores = with_objectness(made, name, shape[2])
    if raw.parameters.decoded:
        return Decoded(from_centers(made, made.slice(name, 2, 0, 4)), scores, shape[1], shape[2] - 5)
    places, strides = cell_places(raw, raw.parameters.strides, shape[1])
    steps = made.const(strides)
    centers = made.make("Mul", [made.make("Add", [made.slice(name, 2, 0, 2), made.const(places)]), steps])
    sides = made.make("Mul", [made.make("Exp", [made.slice(name, 2, 2, 4)]), steps])
    boxes = from_centers(made, made.make("Concat", [centers, sides], axis=2))
    return Decoded(boxes, scores, shape[1], shape[2] - 5)


def blaze(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.blaze``."""
    try:
        boxes, scores = told_apart(raw.outputs)
        count, values = raw.outputs[boxes][1:]
        middles = anchors(raw.parameters, raw.frame, count)
    except DataError as error:
        raise ConfigError(f"--embed postprocessing: {error.message}", hint=error.hint) from error
    sure = made.make("Sigmoid", [scores])
    middle = made.const(middles[None])
    center = made.make("Add", [made.slice(boxes, 2, 0, 2), middle])
    corners = from_centers(made, made.make("Concat", [center, made.slice(boxes, 2, 2, SIDES)], axis=2))
    each = values // 2 - 2
    if not each:
        return Decoded(corners, sure, count, 1)
    every = made.const(np.tile(middles[None], each))
    places = made.make("Add", [made.slice(boxes, 2, SIDES, values), every])
    return Decoded(corners, sure, count, 1, with_score(made, places, sure, count, each), each)
