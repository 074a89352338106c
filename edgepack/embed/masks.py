"""Masks as ONNX operators: the class of every pixel of the model's input."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgepack.embed.decoders import refuse
from edgepack.embed.wished import Answered, Wished
from edgepack.tasks import read_settings
from edgepack.tasks.semantic_segmentation import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.embed.operators import Operators

_TO_NCHW = (0, 3, 1, 2)
_MOST_CLASSES = 256  # that a byte holds


def put_mask(made: Operators, wished: Wished) -> Answered:
    """Append scores between cells in proportion (bilinear) and the choice of the highest: "labels" [1, h, w], uint8.

    As ``tasks.semantic_segmentation`` for a picture of the input's own size; one of another size is read from the
    nearest label, where the task reads scores in between.
    """
    task = wished.task
    settings = read_settings(Settings, task.settings)
    name, shape = next(iter(wished.outputs.items()))
    if len(shape) != 4 or wished.whole:
        raise refuse(f"the output {name!r} {list(shape)} has no scores of classes [1, classes, h, w]")
    if settings.layout == "NHWC":
        name, shape = made.make("Transpose", [name], perm=_TO_NCHW), (shape[0], shape[3], *shape[1:3])
    if shape[1] > _MOST_CLASSES:
        raise refuse(f"{shape[1]} classes are more than a byte holds")
    sides = [wished.frame.input_height, wished.frame.input_width]
    scores = _resized(made, name, shape, sides)
    if shape[1] == 1:
        found = made.make("Not", [made.make("Less", [made.squeeze(scores, 1), made.const(settings.least)])])
    else:
        found = made.make("ArgMax", [scores], axis=1, keepdims=0)
    made.output(found, "labels", "uint8", [1, *sides])
    read = dataclasses.replace(task, settings={k: v for k, v in task.settings.items() if k not in ("layout", "least")})
    return Answered(read, f"the class of each of {sides[1]} x {sides[0]} pixels")


def _resized(made: Operators, name: str, shape: Sequence[int], sides: list[int]) -> str:
    """Return scores at the size of the input."""
    if list(shape[2:]) == sides:
        return name
    inputs = [name, "", "", made.const([1, shape[1], *sides], "int64")]
    return made.make("Resize", inputs, mode="linear", coordinate_transformation_mode="half_pixel")
