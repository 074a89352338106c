"""yolo-anchors: the raw maps of YOLOv5, YOLOv7 (and v3, v4), one for each stride, with anchors.

Outputs [1, anchors * (5 + classes), h, w] or [1, anchors, h, w, 5 + classes]. Source: github.com/ultralytics/yolov5,
models/yolo.py (Detect.forward); YOLOv3 and v4: github.com/AlexeyAB/darknet, src/yolo_layer.c (get_yolo_box).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, check_strides, choose, sigmoid


@dataclass(frozen=True)
class Parameters:
    """``anchors`` has a list for each stride: width and height in pixels of the input, one anchor after the other.

    ``form`` is how sides are written: "v5" also for v7, "v3" also for v4. Maps that went through the sigmoid already
    are ``activated``.
    """

    strides: tuple[float, ...] = (8.0, 16.0, 32.0)
    anchors: tuple[tuple[float, ...], ...] = (
        (10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
        (30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
        (116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
    )
    form: Literal["v5", "v3"] = "v5"
    activated: bool = False


def _decode(outputs: Mapping[str, Array], made: Parameters, _frame: Frame, wanted: Wanted) -> Candidates:
    if len(outputs) != len(made.strides):
        raise DataError(f"{len(made.strides)} strides for {len(outputs)} outputs", hint="one map for each stride")
    maps = sorted((_arranged(v, len(made.anchors[0]) // 2) for v in outputs.values()), key=lambda m: -m.shape[1])
    parts = [_level(m, s, a, made, wanted) for m, s, a in zip(maps, made.strides, made.anchors, strict=True)]
    boxes, scores, numbers = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Candidates(from_centers(boxes), scores, numbers, classes=maps[0].shape[-1] - 5)


def _arranged(value: Array, anchors: int) -> Array:
    """Return a map as [anchors, h, w, 5 + classes]."""
    if value.ndim == 4 and value.shape[0] == 1 and value.shape[1] % anchors == 0:
        value = value.reshape(1, anchors, -1, *value.shape[2:]).transpose(0, 1, 3, 4, 2)
    if value.ndim != 5 or value.shape[:2] != (1, anchors) or value.shape[4] < 6:
        raise DataError(f"an output of the shape {list(value.shape)} is not a map with {anchors} anchors")
    result: Array = value[0]
    return result


def _level(
    found: Array, stride: float, anchors: tuple[float, ...], made: Parameters, wanted: Wanted
) -> tuple[Array, Array, Array]:
    active = (lambda x: x) if made.activated else sigmoid
    which, row, column = np.nonzero(active(found[..., 4]) > wanted.least)
    value = found[which, row, column]
    rows, numbers, scores = choose(active(value[:, 5:]) * active(value[:, 4:5]), wanted)
    value, cell = value[rows], np.stack([column, row], axis=1)[rows]
    sides = np.asarray(anchors, np.float32).reshape(-1, 2)[which[rows]]
    if made.form == "v5":
        box = active(value[:, :4])
        return (
            np.concatenate([(box[:, :2] * 2 - 0.5 + cell) * stride, (box[:, 2:] * 2) ** 2 * sides], 1),
            scores,
            numbers,
        )
    with np.errstate(over="ignore"):
        centers, powers = active(value[:, :2]) + cell, np.exp(value[:, 2:4])
    return np.concatenate([centers * stride, powers * sides], 1), scores, numbers


def _check(made: Parameters) -> None:
    check_strides(made.strides)
    lengths = {len(level) for level in made.anchors}
    if len(made.anchors) != len(made.strides) or len(lengths) != 1 or not 2 <= lengths.pop() <= 64:
        raise ConfigError("anchors do not fit the strides", hint="write width, height, ... for each stride")
    if any(len(level) % 2 or any(side <= 0 for side in level) for level in made.anchors):
        raise ConfigError("an anchor has no width or height", hint="write width, height, width, height, ...")


DECODER = Decoder("raw maps of YOLOv5, v7, v3, v4", Parameters, _decode, check=_check)
