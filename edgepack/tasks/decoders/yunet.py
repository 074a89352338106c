"""yunet: faces with five points, from class, objectness, box and point maps of three strides.

Outputs whose names begin with cls, obj, bbox and kps, [1, n, 1], [1, n, 1], [1, n, 4] and [1, n, 10] for each stride.
Source: github.com/opencv/opencv, modules/objdetect/src/face_detect.cpp (FaceDetectorYNImpl::postProcess).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks.boxes import from_centers
from edgepack.tasks.decoders import Candidates, Decoder, Wanted, cells, check_strides, grids


@dataclass(frozen=True)
class Parameters:
    """The strides of the maps."""

    strides: tuple[float, ...] = (8.0, 16.0, 32.0)


def _decode(outputs: Mapping[str, Array], made: Parameters, frame: Frame, wanted: Wanted) -> Candidates:
    scores = np.sqrt(np.clip(_joined(outputs, "cls", 1), 0, 1) * np.clip(_joined(outputs, "obj", 1), 0, 1))[:, 0]
    columns, lines, levels = cells(grids(frame, made.strides))
    if len(columns) != len(scores):
        raise DataError(f"{len(scores)} cells where grids of strides {list(made.strides)} have {len(columns)}")
    rows = np.flatnonzero(scores > wanted.least)
    cell = np.stack([columns, lines], axis=1)[rows]
    step = np.asarray(made.strides, np.float32)[levels[rows]][:, None]
    box = _joined(outputs, "bbox", 4)[rows]
    points = _joined(outputs, "kps", 10)[rows].reshape(-1, 5, 2)
    places = (points + cell[:, None]) * step[:, None]
    with np.errstate(over="ignore"):
        found = np.concatenate([(cell + box[:, :2]) * step, np.exp(box[:, 2:]) * step], axis=1)
    sure = np.broadcast_to(scores[rows][:, None, None], (len(rows), 5, 1))
    return Candidates(
        from_centers(found), scores[rows], np.zeros(len(rows), np.intp), np.concatenate([places, sure], axis=2)
    )


def _joined(outputs: Mapping[str, Array], name: str, values: int) -> Array:
    """Return the maps of a name, the finest first, as [cells, values]."""
    found = [v for key, v in outputs.items() if key.lower().startswith(name)]
    if not found or any(v.ndim != 3 or v.shape[0] != 1 or v.shape[2] != values for v in found):
        raise DataError(f"no outputs {name}_8, ... of the shape [1, n, {values}]", hint="choose another decoder")
    return np.concatenate([v[0] for v in sorted(found, key=lambda v: -v.shape[1])])


DECODER = Decoder("YuNet", Parameters, _decode, check=lambda made: check_strides(made.strides))
