"""Postprocessing as ONNX operators: the boxes that are left by suppression, or the best classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from edgepack.embed.decoding import Decoded, Raw, decode_boxes, refuse_decoder
from edgepack.embed.operators import Operators
from edgepack.errors import ConfigError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import PICTURE_CLASSES, read_settings
from edgepack.tasks.decoders import DECODERS
from edgepack.tasks.image_classification import Settings as ClassSettings
from edgepack.tasks.object_detection import Settings as BoxSettings

# No score is below it: what is not wanted has the score 0, and engines differ in whether they keep what is just at it.
_LEAST_SCORE = 1e-6


@dataclass(frozen=True)
class Wished:
    """What is to be put behind a model: its task, its outputs' shapes (a batch of 1), the size of its input.

    ``suppresses``: the engine has NonMaxSuppression. ``probabilities``: the first output was seen to be such.
    """

    task: Task
    outputs: Mapping[str, tuple[int, ...]]
    frame: Frame
    suppresses: bool
    probabilities: bool


@dataclass(frozen=True)
class Answered:
    """How the new outputs are read, and what was done, in words."""

    task: Task
    done: str


Put: TypeAlias = Callable[[Operators, Wished], Answered]


def check_postprocessing(task: Task | None) -> None:
    """Raise ``ConfigError`` for a task whose answers are not made in the graph."""
    if task is None:
        return  # class scores, or nothing that is known: the model's outputs say it
    if task.kind not in _PUT:
        raise ConfigError(
            f"--embed postprocessing: answers of {task.kind} are not made in the graph",
            hint=f"leave postprocessing out; it is for {' and '.join(_PUT)}",
        )
    if task.decoder:
        refuse_decoder(task.decoder)


def put_answers(operators: Operators, wished: Wished) -> Answered:
    """Replace the outputs of a graph by answers. Raises ``ConfigError`` for those that have none in the graph."""
    check_postprocessing(wished.task)
    graph = operators.view.graph
    del graph.output[:]
    return _PUT[wished.task.kind](operators, wished)


def _put_boxes(made: Operators, wished: Wished) -> Answered:
    """Append decoding and, where the engine has it, suppression, as ``tasks.object_detection.find_boxes``."""
    task = wished.task
    settings = read_settings(BoxSettings, task.settings)
    decoder = DECODERS.get(task.decoder)
    parameters = read_settings(decoder.parameters, task.parameters, "parameters")
    found = decode_boxes(task.decoder, made, Raw(wished.outputs, parameters, wished.frame))
    if not wished.suppresses and not decoder.final:
        made.output(found.corners, "boxes", "float32", [1, found.count, 4])
        made.output(found.scores, "scores", "float32", [1, found.count, found.classes])
        form: dict[str, Any] = {"form": "xyxy", "normalized": False, "background": -1}
        read = dataclasses.replace(task, decoder="ssd", parameters=form)
        return Answered(read, "boxes are decoded; their suppression stays outside, as the engine has none")
    _suppress(made, found, settings, final=decoder.final)
    form = {"form": "xyxy", "normalized": False, "scores": "scores", "classes": "classes"}
    read = dataclasses.replace(task, decoder="boxes-scores-classes", parameters=form)
    return Answered(read, f"boxes from a score of {settings.score:g} on" + (
        "" if decoder.final else f", suppressed above an overlap of {settings.iou:g}"
    ) + f", at most {settings.most}")  # fmt: skip


def _suppress(made: Operators, found: Decoded, settings: BoxSettings, *, final: bool) -> None:
    """Append the choice of boxes: outputs boxes [1, m, 4], scores and classes [1, m], best first, and count [1].

    Of m rows the first ``count`` are boxes, the others are zeros. Each candidate counts for its best class alone.
    """
    best = made.squeeze(made.highest(found.scores, 2, 1)[0], 2)
    number = made.make("ArgMax", [found.scores], axis=2, keepdims=0)  # OpenVINO's TopK takes any of equal classes
    sure = made.make("Greater", [best, made.const(settings.score)])
    live = made.make("Where", [sure, best, made.const(0.0)])
    looked_at = min(found.count, settings.candidates)
    rows: _Rows = (live, found.corners, number)
    if not final and settings.iou < 1:  # from 1 on no two boxes overlap by more
        rows = _candidates(made, rows, looked_at) if looked_at < found.count else rows
        rows = (made.make("Mul", [rows[0], _mask(made, rows, found.classes, settings)]), *rows[1:])
    most = min(looked_at, settings.most)
    _put_rows(made, _best_of(made, rows, most), most)


_Rows: TypeAlias = tuple[str, str, str]  # scores [1, k], corners [1, k, 4], numbers of classes [1, k]
_FLOAT = 1  # TensorProto.FLOAT of onnx.proto


def _best_of(made: Operators, rows: _Rows, count: int) -> _Rows:
    values, order = made.highest(rows[0], 1, count)
    order = made.squeeze(order, 0)
    corners, numbers = (made.make("Gather", [name, order], axis=1) for name in rows[1:])
    return values, corners, numbers


def _candidates(made: Operators, rows: _Rows, count: int) -> _Rows:
    """Return the best ``count`` rows in the model's order, which decides between equal scores in a suppression.

    OpenVINO's TopK (2026.4) gives equal values in any order, and int8 gives equal scores all the time.
    """
    order = made.squeeze(made.highest(rows[0], 1, count)[1], 0)
    order = made.make_several("TopK", [order, made.const([count], "int64")], 2, axis=0, largest=0)[0]
    scores, corners, numbers = (made.make("Gather", [name, order], axis=1) for name in rows)
    return scores, corners, numbers


def _mask(made: Operators, rows: _Rows, classes: int, settings: BoxSettings) -> str:
    """Return [1, k]: 1 for each candidate that suppression keeps, 0 for the others."""
    values, corners, number = rows
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


def _put_rows(made: Operators, rows: _Rows, count: int) -> None:
    """Append the outputs; rows without a score are zeros."""
    values, corners, number = rows
    sure = made.make("Greater", [values, made.const(0.0)])
    there = made.make("Cast", [sure], to=_FLOAT)
    corners = made.make("Where", [made.unsqueeze(sure, 2), corners, made.const(0.0)])  # infinity by 0 is no zero
    made.output(corners, "boxes", "float32", [1, count, 4])
    made.output(values, "scores", "float32", [1, count])
    numbers = made.make("Mul", [made.make("Cast", [number], to=_FLOAT), there])
    made.output(numbers, "classes", "int32", [1, count])
    made.output(made.make("ReduceSum", [there, made.const([1], "int64")], keepdims=0), "count", "int32", [1])


def _put_classes(made: Operators, wished: Wished) -> Answered:
    """Append softmax or sigmoid where the scores are none yet, and the choice of the best classes."""
    settings = read_settings(ClassSettings, wished.task.settings)
    name, shape = next(iter(wished.outputs.items()))
    count = 1
    for size in shape[1:]:
        count *= size
    if len(shape) < 2 or count < 2:
        raise ConfigError(
            f"--embed postprocessing: the output {name!r} {list(shape)} is no row of class scores",
            hint="leave postprocessing out, or name a task with --task",
        )
    flat = made.make("Reshape", [name, made.const([1, count], "int64")])
    activation = settings.activation
    activation = ("none" if wished.probabilities else "softmax") if activation == "auto" else activation
    if activation == "softmax":
        flat = made.make("Softmax", [flat], axis=1)
    elif activation == "sigmoid":
        flat = made.make("Sigmoid", [flat])
    top = min(settings.top, count)
    values, numbers = made.highest(flat, 1, top)
    made.output(values, "scores", "float32", [1, top])
    made.output(numbers, "classes", "int32", [1, top])
    chosen = {**wished.task.settings, "activation": "none", "final": True}
    words = "" if activation == "none" else f"{activation} and "
    return Answered(dataclasses.replace(wished.task, settings=chosen), f"{words}the best {top} classes")


_PUT: Mapping[str, Put] = {PICTURE_CLASSES: _put_classes, "object-detection": _put_boxes}
