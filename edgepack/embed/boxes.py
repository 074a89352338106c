"""Suppression as ONNX operators: of what a decoder gives the boxes that are answers, with their points."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepack.embed.decoders import POINT_VALUES, Decoded, Raw
from edgepack.embed.decoding import decode_boxes
from edgepack.embed.wished import Answered, Wished
from edgepack.tasks import read_settings
from edgepack.tasks.decoders import DECODERS
from edgepack.tasks.object_detection import Settings

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators

# No score is below it: what is not wanted has the score 0, and engines differ in whether they keep what is just at it.
# It is far above the least float32 (1e-38), near which engines read 0.
_LEAST_SCORE = 1e-30
_FLOAT = 1  # TensorProto.FLOAT of onnx.proto
_POINTS = "points"


def put_boxes(made: Operators, wished: Wished) -> Answered:
    """Append decoding and, where the engine has it, suppression, as ``tasks.object_detection.find_boxes``."""
    task = wished.task
    settings = read_settings(Settings, task.settings)
    decoder = DECODERS.get(task.decoder)
    parameters = read_settings(decoder.parameters, task.parameters, "parameters")
    most = min(settings.candidates, settings.most) if decoder.final else settings.candidates
    found = decode_boxes(task.decoder, made, Raw(wished.outputs, parameters, wished.frame, most))
    form: dict[str, Any] = {"form": "xyxy", "normalized": False}
    if found.points:
        form["points"] = _POINTS
    if not wished.suppresses and not decoder.final:
        _put_candidates(made, found)
        read = dataclasses.replace(task, decoder="ssd", parameters={**form, "background": -1})
        return Answered(read, "boxes are decoded; their suppression stays outside, as the engine has none")
    _suppress(made, found, settings, final=decoder.final)
    form |= {"scores": "scores", "classes": "classes"}
    read = dataclasses.replace(task, decoder="boxes-scores-classes", parameters=form)
    return Answered(read, _in_words(settings, final=decoder.final))


def _in_words(settings: Settings, *, final: bool) -> str:
    suppressed = "" if final else f", suppressed above an overlap of {settings.iou:g}"
    return f"boxes from a score of {settings.score:g} on{suppressed}, at most {settings.most}"


def _put_candidates(made: Operators, found: Decoded) -> None:
    """Append the outputs of a model whose boxes are suppressed outside."""
    made.output(found.corners, "boxes", "float32", [1, found.count, 4])
    made.output(found.scores, "scores", "float32", [1, found.count, found.classes])
    if found.points:
        _put_points(made, found.points, found.count, found.each)


def _put_points(made: Operators, name: str, count: int, each: int) -> None:
    shape = [1, count, each, POINT_VALUES]
    made.output(made.make("Reshape", [name, made.const(shape, "int64")]), _POINTS, "float32", shape)


def _suppress(made: Operators, found: Decoded, settings: Settings, *, final: bool) -> None:
    """Append the choice of boxes: outputs boxes [1, m, 4], scores and classes [1, m], best first, and count [1].

    Of m rows the first ``count`` are boxes, the others are zeros. Each candidate counts for its best class alone.
    """
    best = made.greatest(found.scores, 2)
    number = found.numbers  # where there are none: OpenVINO's TopK takes any of equal classes, ArgMax the first
    number = number or made.make("ArgMax", [found.scores], axis=2, keepdims=0)
    sure = made.make("Greater", [best, made.const(settings.score)])
    live = made.make("Where", [sure, best, made.const(0.0)])
    looked_at = min(found.count, settings.candidates)
    rows: _Rows = (live, found.corners, number, *([found.points] if found.points else []))
    size = found.count
    if not final and settings.iou < 1:  # from 1 on no two boxes overlap by more
        rows, size = _candidates(made, rows, looked_at, size) if looked_at < size else rows, looked_at
        rows = (made.make("Mul", [rows[0], _mask(made, rows, found.classes, settings)]), *rows[1:])
    most = min(looked_at, settings.most)
    _put_rows(made, _best_of(made, rows, most, size), most, found.each)


# scores [1, k], corners [1, k, 4], numbers of classes [1, k], and points [1, k, values] where there are any
_Rows: TypeAlias = tuple[str, ...]


def _best_of(made: Operators, rows: _Rows, count: int, size: int) -> _Rows:
    values, order = made.highest(rows[0], count, size)
    order = made.squeeze(order, 0)
    return values, *(made.make("Gather", [name, order], axis=1) for name in rows[1:])


def _candidates(made: Operators, rows: _Rows, count: int, size: int) -> _Rows:
    """Return the best ``count`` rows in the model's order, which decides between equal scores in a suppression.

    OpenVINO's TopK (2026.4) gives equal values in any order, and int8 gives equal scores all the time.
    """
    order = made.squeeze(made.highest(rows[0], count, size)[1], 0)
    order = made.make_several("TopK", [order, made.const([count], "int64")], 2, axis=0, largest=0)[0]
    return tuple(made.make("Gather", [name, order], axis=1) for name in rows)


def _mask(made: Operators, rows: _Rows, classes: int, settings: Settings) -> str:
    """Return [1, k]: 1 for each candidate that suppression keeps, 0 for the others."""
    values, corners, number = rows[:3]
    by_class = made.unsqueeze(values, 1)
    if not settings.agnostic and classes > 1:
        every = made.const([[[one] for one in range(classes)]], "int64")
        of_class = made.make("Equal", [made.unsqueeze(number, 1), every])
        by_class = made.make("Where", [of_class, by_class, made.const(0.0)])
    least = max(settings.score, _LEAST_SCORE)
    limits = [made.const([settings.most], "int64"), made.const([_just_above(settings.iou)]), made.const([least])]
    chosen = made.make("NonMaxSuppression", [corners, by_class, *limits])
    index = made.squeeze(made.slice(chosen, 1, 2, 3), 1)
    flat, zero = made.squeeze(values, 0), made.const(0.0)
    ones = made.make("Add", [made.make("Mul", [made.make("Cast", [index], to=_FLOAT), zero]), made.const(1.0)])
    nothing = made.make("Mul", [flat, zero])
    return made.unsqueeze(made.make("ScatterElements", [nothing, index, ones], axis=0), 0)


def _just_above(iou: float) -> float:
    """Return the next float32: OpenVINO (2026.4) suppresses an overlap of just the limit too; others from above it."""
    least = np.finfo(np.float32).tiny
    return float(max(np.nextafter(np.float32(iou), np.float32(1)), least))


def _put_rows(made: Operators, rows: _Rows, count: int, each: int) -> None:
    """Append the outputs; rows without a score are zeros."""
    values, corners, number, *points = rows
    sure = made.make("Greater", [values, made.const(0.0)])
    there = made.make("Cast", [sure], to=_FLOAT)
    full = made.unsqueeze(sure, 2)
    corners, *points = (made.make("Where", [full, name, made.const(0.0)]) for name in (corners, *points))  # infinity
    made.output(corners, "boxes", "float32", [1, count, 4])  # by 0 is not zero
    made.output(values, "scores", "float32", [1, count])
    numbers = made.make("Mul", [made.make("Cast", [number], to=_FLOAT), there])
    made.output(numbers, "classes", "int32", [1, count])
    made.output(made.make("ReduceSum", [there, made.const([1], "int64")], keepdims=0), "count", "int32", [1])
    for name in points:
        _put_points(made, name, count, each)
