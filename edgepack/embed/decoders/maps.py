"""Decoders of maps, one for each stride or one alone: fastestdet, yolo-anchors, yunet, distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgepack.embed.decoders import (
    SIDES,
    Decoded,
    Raw,
    activated,
    cell_places,
    concat_rows,
    from_centers,
    input_sides,
    refuse,
    single,
    with_objectness,
    with_score,
)
from edgepack.tasks.decoders import cells

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators

_FACE_POINTS = 5


def fastestdet(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.fastestdet``."""
    name, shape = single(raw, 4)
    values, height, width = shape[1:]
    flat = made.make("Reshape", [name, made.const([1, values, height * width], "int64")])
    rows = made.make("Transpose", [flat], perm=(0, 2, 1))
    zero = made.const(0.0)
    parts = [made.make("Max", [made.slice(rows, 2, *ends), zero]) for ends in ((0, 1), (5, values))]
    powers = made.const(raw.parameters.object_power), made.const(raw.parameters.class_power)
    scores = made.make("Mul", [made.make("Pow", [p, power]) for p, power in zip(parts, powers, strict=True)])
    columns, lines, _ = cells([(height, width)])
    size = input_sides(raw)
    places = made.const(np.stack([columns, lines], axis=1)[None])
    inside = made.make("Add", [made.make("Tanh", [made.slice(rows, 2, 1, 3)]), places])
    centers = made.make("Mul", [made.make("Div", [inside, made.const([width, height])]), made.const(size)])
    sides = made.make("Mul", [made.make("Sigmoid", [made.slice(rows, 2, 3, 5)]), made.const(size)])
    boxes = from_centers(made, made.make("Concat", [centers, sides], axis=2))
    return Decoded(boxes, scores, height * width, values - 5)


def yolo_anchors(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.yolo_anchors``."""
    parameters = raw.parameters
    if len(raw.outputs) != len(parameters.strides):
        raise refuse(f"{len(parameters.strides)} strides for {len(raw.outputs)} outputs")
    each = len(parameters.anchors[0]) // 2
    maps = sorted((_arranged(made, name, shape, each) for name, shape in raw.outputs.items()), key=lambda m: -m[1][0])
    levels = [
        _level(made, *found, stride, anchors, raw)
        for found, stride, anchors in zip(maps, parameters.strides, parameters.anchors, strict=True)
    ]
    corners, scores = (concat_rows(made, names) for names in zip(*levels, strict=True))
    count = sum(each * sides[0] * sides[1] for _, sides, _ in maps)
    return Decoded(corners, scores, count, maps[0][2] - 5)


def _arranged(made: Operators, name: str, shape: Sequence[int], each: int) -> tuple[str, tuple[int, int], int]:
    """Return a map as rows [1, anchors * h * w, values], its height and width, and how many values a row has."""
    if len(shape) == 4 and shape[1] % each == 0:
        values, height, width = shape[1] // each, *shape[2:]
        apart = made.make("Reshape", [name, made.const([1, each, values, height, width], "int64")])
        name = made.make("Transpose", [apart], perm=(0, 1, 3, 4, 2))
    elif len(shape) == 5 and shape[1] == each:
        height, width, values = shape[2:]
    else:
        raise refuse(f"an output of the shape {list(shape)} is not a map with {each} anchors")
    if values < 6:
        raise refuse(f"{values} values a box are too few for 4 sides, objectness and a class")
    rows = made.make("Reshape", [name, made.const([1, each * height * width, values], "int64")])
    return rows, (height, width), values


def _level(
    made: Operators, rows: str, map_sides: tuple[int, int], values: int, stride: float, anchors: tuple[float, ...],
    raw: Raw,
) -> tuple[str, str]:  # fmt: skip
    """Return corners and scores of a stride's candidates: anchor by anchor, row by row."""
    columns, lines, _ = cells([map_sides])
    shapes = np.asarray(anchors, np.float32).reshape(-1, 2)
    places = made.const(np.tile(np.stack([columns, lines], axis=1), (len(shapes), 1))[None])
    sizes = made.const(np.repeat(shapes, len(columns), axis=0)[None])
    parameters = raw.parameters
    active = rows if parameters.activated else made.make("Sigmoid", [rows])
    step, two = made.const(stride), made.const(2.0)
    middle = made.slice(active, 2, 0, 2)
    if parameters.form == "v5":
        middle = made.make("Sub", [made.make("Mul", [middle, two]), made.const(0.5)])
        grown = made.make("Pow", [made.make("Mul", [made.slice(active, 2, 2, 4), two]), two])
    else:
        grown = made.make("Exp", [made.slice(rows, 2, 2, 4)])
    centers = made.make("Mul", [made.make("Add", [middle, places]), step])
    boxes = made.make("Concat", [centers, made.make("Mul", [grown, sizes])], axis=2)
    return from_centers(made, boxes), with_objectness(made, active, values)


def yunet(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.yunet``."""
    parts = {name: _joined(made, raw, name, values) for name, values in _YUNET.items()}
    sure = made.make("Mul", [_limited(made, parts["cls"][0]), _limited(made, parts["obj"][0])])
    count = parts["cls"][1]
    places, strides = cell_places(raw, raw.parameters.strides, count)
    place, steps = made.const(places), made.const(strides)
    boxes = parts["bbox"][0]
    centers = made.make("Mul", [made.make("Add", [made.slice(boxes, 2, 0, 2), place]), steps])
    sides = made.make("Mul", [made.make("Exp", [made.slice(boxes, 2, 2, 4)]), steps])
    corners = from_centers(made, made.make("Concat", [centers, sides], axis=2))
    scores = made.make("Sqrt", [sure])
    every = made.const(np.tile(places, _FACE_POINTS))
    points = made.make("Mul", [made.make("Add", [parts["kps"][0], every]), steps])
    points = with_score(made, points, scores, count, _FACE_POINTS)
    return Decoded(corners, scores, count, 1, points, _FACE_POINTS)


_YUNET = {"cls": 1, "obj": 1, "bbox": SIDES, "kps": 2 * _FACE_POINTS}


def _joined(made: Operators, raw: Raw, name: str, values: int) -> tuple[str, int]:
    """Return the maps of a name, the finest first, as [1, cells, values], and how many cells these are."""
    found = {key: shape for key, shape in raw.outputs.items() if key.lower().startswith(name)}
    if not found or any(len(shape) != 3 or shape[2] != values for shape in found.values()):
        raise refuse(f"there are no outputs {name}_8, ... of the shape [1, n, {values}]")
    named = sorted(found, key=lambda key: -found[key][1])
    return concat_rows(made, named), sum(found[key][1] for key in named)


def _limited(made: Operators, name: str) -> str:
    return made.make("Clip", [name, made.const(0.0), made.const(1.0)])


def distributions(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.distributions``."""
    parameters = raw.parameters
    scores, sides, count, classes = _scores_and_sides(made, raw, SIDES * parameters.bins)
    places, strides = cell_places(raw, parameters.strides, count, up=True)
    apart = made.make("Reshape", [sides, made.const([1, count, SIDES, parameters.bins], "int64")])
    chances = made.make("Softmax", [apart], axis=3)
    bins = np.arange(parameters.bins, dtype=np.float32)[:, None]
    away = made.make("Reshape", [made.make("MatMul", [chances, made.const(bins)]), _shape(made, count)])
    away = made.make("Mul", [away, made.const(strides)])
    points = made.const((places + np.float32(parameters.middle)) * strides)
    low = made.make("Sub", [points, made.slice(away, 2, 0, 2)])
    high = made.make("Add", [points, made.slice(away, 2, 2, 4)])
    kept = activated(made, scores, "sigmoid" if parameters.logits else "none")
    return Decoded(made.make("Concat", [low, high], axis=2), kept, count, classes)


def _shape(made: Operators, count: int) -> str:
    return made.const([1, count, SIDES], "int64")


def _scores_and_sides(made: Operators, raw: Raw, width: int) -> tuple[str, str, int, int]:
    """Return scores [1, n, classes] and distributions [1, n, ``width``] of all strides, the finest first."""
    shapes = raw.outputs
    if len(shapes) == 1:
        name, shape = single(raw, 3)
        classes = shape[2] - width
        if classes < 1:
            raise refuse(f"{shape[2]} values a box are not scores and distributions of {width} values")
        return made.slice(name, 2, 0, classes), made.slice(name, 2, classes, shape[2]), shape[1], classes
    if any(len(shape) != 3 for shape in shapes.values()):
        raise refuse("the outputs are not scores [1, n, classes] and distributions [1, n, 4 * bins]")
    scores, sides = _told_apart(raw, width)
    wide = {shapes[name][2] for name in scores}
    count = sum(shapes[name][1] for name in sides)
    if not sides or len(wide) != 1 or sum(shapes[name][1] for name in scores) != count:
        raise refuse(f"the outputs are not scores and distributions of {width} values")
    return concat_rows(made, scores), concat_rows(made, sides), count, wide.pop()


def _told_apart(raw: Raw, width: int) -> tuple[list[str], list[str]]:
    """Return the names of scores and of distributions, the finest first; of equal widths scores come first."""
    shapes = raw.outputs
    sides = sorted((name for name in shapes if shapes[name][2] == width), key=lambda name: -shapes[name][1])
    scores = sorted((name for name in shapes if shapes[name][2] != width), key=lambda name: -shapes[name][1])
    if sides and not scores:
        named = list(shapes)
        return named[: len(named) // 2], named[len(named) // 2 :]
    return scores, sides
