"""detr: a set of things, one a row: class scores and a box each; nothing is found twice.

Outputs [1, n, classes] of scores and [1, n, 4] of center x, center y, width, height from 0 to 1. Source:
github.com/facebookresearch/detr, models/detr.py (PostProcess); RT-DETR: github.com/lyuwenyu/RT-DETR,
rtdetr_pytorch/src/zoo/rtdetr/rtdetr_postprocessor.py (sigmoid, and no class for nothing).
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
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, activate, batch_of_one, choose


@dataclass(frozen=True)
class Parameters:
    """``nothing`` says whether the last class is that of no thing, which is left out."""

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    nothing: bool = True


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    values = [batch_of_one(v, 3, "[1, n, classes] or [1, n, 4]") for v in outputs.values()]
    boxes = next(
        (i for i, v in enumerate(values) if v.shape[1] == 4 and v.size and v.min() >= 0 and v.max() <= 1.5), None
    )
    if len(values) != 2 or boxes is None or len(values[0]) != len(values[1]):
        raise DataError("outputs are not scores [1, n, classes] and boxes [1, n, 4] from 0 to 1")
    scores = activate(values[1 - boxes], made.activation)
    scores = scores[:, :-1] if made.nothing else scores
    rows, numbers, chosen = choose(scores, wanted)
    sides = np.array([frame.input_width, frame.input_height] * 2, np.float32)
    return Candidates(from_centers(values[boxes][rows]) * sides, chosen, numbers, classes=scores.shape[1])


def _are_shares(values: Array) -> bool:
    return values.size > 0 and values.min() >= 0 and values.max() <= 1.5


def _check(made: Parameters) -> None:
    if made.activation == "sigmoid" and made.nothing:
        raise ConfigError("sigmoid scores have no class for nothing", hint="write nothing = false")


DECODER = Decoder("DETR, RT-DETR", Parameters, _decode, final=True, check=_check)
