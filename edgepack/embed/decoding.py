"""Detectors' decoders as ONNX operators: corners [1, n, 4] in pixels of the input, and scores [1, n, classes].

The same arithmetic as ``tasks/decoders``, in float32. To add a decoder, add a function and a line to ``DECODING``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepack.errors import ConfigError
from edgepack.specs.task import Frame
from edgepack.tasks.decoders import cells, grids

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators

_SIDES = 4
_NOTHING_TO_DO = "the model gives final boxes already"


@dataclass(frozen=True)
class Raw:
    """What is decoded: the model's outputs by name with their shapes, the decoder's parameters, and the input's size.

    A free batch has become 1.
    """

    outputs: Mapping[str, tuple[int, ...]]
    parameters: Any
    frame: Frame


@dataclass(frozen=True)
class Decoded:
    """The names of corners [1, ``count``, 4] and scores [1, ``count``, ``classes``]."""

    corners: str
    scores: str
    count: int
    classes: int


Decode: TypeAlias = "Callable[[Operators, Raw], Decoded]"


def decode_boxes(decoder: str, operators: Operators, raw: Raw) -> Decoded:
    """Append a decoder to a graph and return what it makes. Raises ``ConfigError``."""
    refuse_decoder(decoder)
    return DECODING[decoder](operators, raw)


def refuse_decoder(decoder: str) -> None:
    """Raise ``ConfigError`` for a decoder that does not exist as operators."""
    if decoder in FINAL:
        raise ConfigError(f"--embed postprocessing: {decoder}: {_NOTHING_TO_DO}", hint="leave postprocessing out")
    if decoder not in DECODING:
        raise ConfigError(
            f"--embed postprocessing: the decoder {decoder!r} is not written as operators",
            hint=f"leave postprocessing out; these are: {', '.join(DECODING)}",
        )


def _single(raw: Raw, axes: int) -> tuple[str, tuple[int, ...]]:
    if len(raw.outputs) != 1 or len(next(iter(raw.outputs.values()))) != axes:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in raw.outputs.items())
        raise ConfigError(f"--embed postprocessing: the decoder does not read {shapes}", hint="choose another decoder")
    return next(iter(raw.outputs.items()))


def _yolo(made: Operators, raw: Raw) -> Decoded:
    name, shape = _single(raw, 3)
    if raw.parameters.points:
        raise ConfigError("--embed postprocessing: points are not decoded in the graph", hint="leave it out")
    rows = name if shape[1] >= shape[2] else made.make("Transpose", [name], perm=(0, 2, 1))
    values = min(shape[1:])
    boxes = _to_pixels(made, made.slice(rows, 2, 0, 4), raw, normalized=raw.parameters.normalized)
    return Decoded(_from_centers(made, boxes), made.slice(rows, 2, 4, values), max(shape[1:]), values - 4)


def _yolo_objectness(made: Operators, raw: Raw) -> Decoded:
    name, shape = _single(raw, 3)
    boxes = _to_pixels(made, made.slice(name, 2, 0, 4), raw, normalized=raw.parameters.normalized)
    return Decoded(_from_centers(made, boxes), _with_objectness(made, name, shape), shape[1], shape[2] - 5)


def _yolox(made: Operators, raw: Raw) -> Decoded:
    name, shape = _single(raw, 3)
    scores = _with_objectness(made, name, shape)
    if raw.parameters.decoded:
        return Decoded(_from_centers(made, made.slice(name, 2, 0, 4)), scores, shape[1], shape[2] - 5)
    columns, rows, levels = cells(grids(raw.frame, raw.parameters.strides))
    if len(columns) != shape[1]:
        raise ConfigError(
            f"{shape[1]} boxes where grids of strides {list(raw.parameters.strides)} have {len(columns)}",
            hint="correct strides in [task.parameters]",
        )
    steps = made.const(np.asarray(raw.parameters.strides, np.float32)[levels][None, :, None])
    places = made.const(np.stack([columns, rows], axis=1)[None])
    centers = made.make("Mul", [made.make("Add", [made.slice(name, 2, 0, 2), places]), steps])
    sides = made.make("Mul", [made.make("Exp", [made.slice(name, 2, 2, 4)]), steps])
    boxes = _from_centers(made, made.make("Concat", [centers, sides], axis=2))
    return Decoded(boxes, scores, shape[1], shape[2] - 5)


def _fastestdet(made: Operators, raw: Raw) -> Decoded:
    name, shape = _single(raw, 4)
    values, height, width = shape[1:]
    flat = made.make("Reshape", [name, made.const([1, values, height * width], "int64")])
    rows = made.make("Transpose", [flat], perm=(0, 2, 1))
    zero = made.const(0.0)
    parts = [made.make("Max", [made.slice(rows, 2, *ends), zero]) for ends in ((0, 1), (5, values))]
    powers = made.const(raw.parameters.object_power), made.const(raw.parameters.class_power)
    scores = made.make("Mul", [made.make("Pow", [p, power]) for p, power in zip(parts, powers, strict=True)])
    columns, lines, _ = cells([(height, width)])
    size = np.array([raw.frame.input_width, raw.frame.input_height], np.float32)
    places = made.const(np.stack([columns, lines], axis=1)[None])
    inside = made.make("Add", [made.make("Tanh", [made.slice(rows, 2, 1, 3)]), places])
    centers = made.make("Mul", [made.make("Div", [inside, made.const([width, height])]), made.const(size)])
    sides = made.make("Mul", [made.make("Sigmoid", [made.slice(rows, 2, 3, 5)]), made.const(size)])
    boxes = _from_centers(made, made.make("Concat", [centers, sides], axis=2))
    return Decoded(boxes, scores, height * width, values - 5)


def _ssd(made: Operators, raw: Raw) -> Decoded:
    parameters = raw.parameters
    if parameters.sizes:
        raise ConfigError("--embed postprocessing: priors are not decoded in the graph", hint="leave it out")
    boxes, scores = _boxes_and_scores(raw)
    count, classes = raw.outputs[scores][1:]
    kept = _activated(made, scores, parameters.activation)
    if 0 <= parameters.background < classes:
        known = [number for number in range(classes) if number != parameters.background]
        kept, classes = made.make("Gather", [kept, made.const(known, "int64")], axis=2), len(known)
    if parameters.form == "yxyx":
        boxes = made.make("Gather", [boxes, made.const([1, 0, 3, 2], "int64")], axis=2)
    boxes = _from_centers(made, boxes) if parameters.form == "cxcywh" else boxes
    return Decoded(_to_pixels(made, boxes, raw, normalized=parameters.normalized), kept, count, classes)


def _detr(made: Operators, raw: Raw) -> Decoded:
    boxes, scores = _boxes_and_scores(raw)
    count, classes = raw.outputs[scores][1:]
    kept = _activated(made, scores, raw.parameters.activation)
    if raw.parameters.nothing:
        kept, classes = made.slice(kept, 2, 0, classes - 1), classes - 1
    return Decoded(_to_pixels(made, _from_centers(made, boxes), raw, normalized=True), kept, count, classes)


def _boxes_and_scores(raw: Raw) -> tuple[str, str]:
    """Return the names of the outputs with boxes and with scores."""
    named = sorted(raw.outputs, key=lambda name: not any(word in name.lower() for word in ("box", "loc")))
    shaped = [name for name in named if len(raw.outputs[name]) == 3]
    boxes = next((name for name in shaped if raw.outputs[name][2] == _SIDES), None)
    told = any(word in str(boxes).lower() for word in ("box", "loc"))
    unclear = not told and all(raw.outputs[name][2] == _SIDES for name in shaped)
    if boxes is None or unclear or len(shaped) != 2 or len(raw.outputs) != 2:
        raise ConfigError("--embed postprocessing: the outputs are not boxes [1, n, 4] and scores [1, n, classes]")
    return boxes, next(name for name in shaped if name != boxes)


def _with_objectness(made: Operators, name: str, shape: Sequence[int]) -> str:
    return made.make("Mul", [made.slice(name, 2, 5, shape[2]), made.slice(name, 2, 4, 5)])


def _activated(made: Operators, name: str, activation: str) -> str:
    if activation == "softmax":
        return made.make("Softmax", [name], axis=2)
    return made.make("Sigmoid", [name]) if activation == "sigmoid" else name


def _to_pixels(made: Operators, boxes: str, raw: Raw, *, normalized: bool) -> str:
    sides = np.array([raw.frame.input_width, raw.frame.input_height] * 2, np.float32)
    return made.make("Mul", [boxes, made.const(sides)]) if normalized else boxes


def _from_centers(made: Operators, boxes: str) -> str:
    center = made.slice(boxes, 2, 0, 2)
    half = made.make("Mul", [made.slice(boxes, 2, 2, 4), made.const(0.5)])
    return made.make("Concat", [made.make("Sub", [center, half]), made.make("Add", [center, half])], axis=2)


DECODING: Mapping[str, Decode] = {
    "yolo": _yolo,
    "yolo-objectness": _yolo_objectness,
    "yolox": _yolox,
    "fastestdet": _fastestdet,
    "ssd": _ssd,
    "detr": _detr,
}
# Decoders of models whose outputs are the end already.
FINAL = ("yolo-final", "boxes-scores-classes")
