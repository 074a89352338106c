"""Decoders of an output with boxes and one with scores: ssd, detr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.embed.decoders import (
    SIDES,
    Decoded,
    Raw,
    activated,
    from_centers,
    refuse,
    to_pixels,
)
from edgepack.errors import ConfigError, DataError
from edgepack.tasks.decoders.ssd import priors

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators


def ssd(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.ssd``."""
    parameters = raw.parameters
    boxes, scores = _boxes_and_scores(raw)
    count, classes = raw.outputs[scores][1:]
    kept = activated(made, scores, parameters.activation)
    if 0 <= parameters.background < classes:
        known = [number for number in range(classes) if number != parameters.background]
        kept, classes = made.make("Gather", [kept, made.const(known, "int64")], axis=2), len(known)
    if parameters.priors:
        found = from_centers(made, _from_priors(made, boxes, raw, count))
        return Decoded(to_pixels(made, found, raw, normalized=True), kept, count, classes)
    if parameters.form == "yxyx":
        boxes = made.make("Gather", [boxes, made.const([1, 0, 3, 2], "int64")], axis=2)
    boxes = from_centers(made, boxes) if parameters.form == "cxcywh" else boxes
    return Decoded(to_pixels(made, boxes, raw, normalized=parameters.normalized), kept, count, classes)


def _from_priors(made: Operators, steps: str, raw: Raw, count: int) -> str:
    """Return center x, center y, width and height, 0 to 1, of steps from priors."""
    try:
        centers, sides = priors(raw.parameters, raw.frame, count)
    except DataError as error:
        raise ConfigError(f"--embed postprocessing: {error.message}", hint="see strides, sizes and anchors") from error
    first, second = (np.float32(variance) for variance in raw.parameters.variances)
    moved = made.make("Mul", [made.slice(steps, 2, 0, 2), made.const((first * sides)[None])])
    grown = made.make("Exp", [made.make("Mul", [made.slice(steps, 2, 2, 4), made.const(second)])])
    parts = made.make("Add", [moved, made.const(centers[None])]), made.make("Mul", [grown, made.const(sides[None])])
    return made.make("Concat", parts, axis=2)


def detr(made: Operators, raw: Raw) -> Decoded:
    """Append ``tasks.decoders.detr``."""
    boxes, scores = _boxes_and_scores(raw)
    count, classes = raw.outputs[scores][1:]
    kept = activated(made, scores, raw.parameters.activation)
    if raw.parameters.nothing:
        kept, classes = made.slice(kept, 2, 0, classes - 1), classes - 1
    return Decoded(to_pixels(made, from_centers(made, boxes), raw, normalized=True), kept, count, classes)


def _boxes_and_scores(raw: Raw) -> tuple[str, str]:
    """Return the names of the outputs with boxes and with scores."""
    named = sorted(raw.outputs, key=lambda name: not any(word in name.lower() for word in ("box", "loc")))
    shaped = [name for name in named if len(raw.outputs[name]) == 3]
    boxes = next((name for name in shaped if raw.outputs[name][2] == SIDES), None)
    told = any(word in str(boxes).lower() for word in ("box", "loc"))
    unclear = not told and all(raw.outputs[name][2] == SIDES for name in shaped)
    if boxes is None or unclear or len(shaped) != 2 or len(raw.outputs) != 2:
        raise refuse("the outputs are not boxes [1, n, 4] and scores [1, n, classes]")
    return boxes, next(name for name in shaped if name != boxes)
