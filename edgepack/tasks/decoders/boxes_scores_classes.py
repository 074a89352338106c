"""boxes-scores-classes: final boxes, their scores and classes in three outputs, and often their number in a fourth.

What TensorFlow's SSD models (``TFLite_Detection_PostProcess``) and torchvision's detectors return. Outputs [1, n, 4] or
[n, 4], two of [1, n] or [n], and one with a single number or none. Source: github.com/tensorflow/models,
research/object_detection/g3doc/running_on_mobile_tensorflowlite.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, points_of


@dataclass(frozen=True)
class Parameters:
    """``classes`` and ``scores`` name these outputs; without names they are told by type and by their values.

    ``first`` is the number that the model gives to the first class. ``points`` names an output [1, n, points, 3] of x,
    y (in pixels of the input) and score, "" where there is none.
    """

    form: Literal["xyxy", "yxyx"] = "yxyx"
    normalized: bool = True
    first: int = 0
    classes: str = ""
    scores: str = ""
    points: str = ""


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    boxes = next((v.reshape(-1, 4) for v in outputs.values() if v.ndim >= 2 and v.shape[-1] == 4 and v.ndim <= 3), None)
    if boxes is None:
        raise DataError("no output of the shape [1, n, 4] has boxes", hint="choose another decoder")
    names = [name for name, v in outputs.items() if v.size == len(boxes) and v.shape[-1] == len(boxes)]
    scores, classes = _told(outputs, names, made)
    others = [v for name, v in outputs.items() if v.size == 1 and name not in (scores, classes)]
    count = int(others[0].ravel()[0]) if others else len(boxes)
    numbers = np.rint(outputs[classes].ravel()).astype(np.intp) - made.first
    values = outputs[scores].ravel().astype(np.float32)
    known = np.arange(len(boxes)) < count
    rows = np.flatnonzero((values > wanted.least) & known)
    rows = rows[np.argsort(-values[rows], kind="stable")]
    found = boxes[rows][:, [1, 0, 3, 2]] if made.form == "yxyx" else boxes[rows]
    if made.normalized:
        found = found * np.array([frame.input_width, frame.input_height] * 2, np.float32)
    return Candidates(found, values[rows], numbers[rows], points_of(outputs, made.points, rows))


def _told(outputs: Mapping[str, Array], names: list[str], made: Parameters) -> tuple[str, str]:
    """Return which output has scores and which classes."""
    for known in (made.scores, made.classes):
        if known and known not in outputs:
            raise DataError(f"the model has no output {known!r}", hint="outputs: " + ", ".join(outputs))
    if made.scores and made.classes:
        return made.scores, made.classes
    if len(names) != 2:
        raise DataError(
            f"{len(names)} outputs have a number for each box, and scores and classes are two",
            hint="name them: [task.parameters] scores = ..., classes = ...",
        )
    whole = [name for name in names if outputs[name].dtype.kind in "iu"] or [
        name for name in names if (outputs[name] == np.rint(outputs[name])).all() and (outputs[name] > 1).any()
    ]
    classes = (
        made.classes
        or next((n for n in names if "class" in n.lower() or "label" in n.lower()), "")
        or (whole[0] if whole else names[0])
    )
    scores = made.scores or next(name for name in names if name != classes)
    return scores, classes


DECODER = Decoder("final boxes, scores and classes", Parameters, _decode, final=True)
