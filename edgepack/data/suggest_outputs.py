"""Models of several outputs of which not all are read: boxes beside masks, and the one that a recipe is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int | str, ...]

_LEAST_ROW = 5  # values of a box: 4 sides and a score or class
_MOST_MASKS = 256
_BESIDE = "aux"  # how outputs are named that were of use in the training


@dataclass(frozen=True)
class BoxesBesideMasks:
    """The output ``name`` whose rows are of ``shape`` without the ``unread`` values that weigh maps of another output.

    YOLACT's masks, which YOLOv5, v8, 11 and 26 have in their segmenting kinds.
    """

    name: str
    shape: Shape
    unread: int


def boxes_beside_masks(outputs: Mapping[str, Shape]) -> BoxesBesideMasks | None:
    """Return the boxes of a model that also gives maps [1, m, h, w] and m weights of them for each box; else None."""
    rows = [name for name, shape in outputs.items() if len(shape) == 3]
    maps = [shape[1] for shape in outputs.values() if len(shape) == 4]
    if (len(outputs), len(rows), len(maps)) != (2, 1, 1):
        return None
    (name,), (unread,) = rows, maps
    if not isinstance(unread, int) or not 1 <= unread <= _MOST_MASKS:
        return None
    first, second = outputs[name][1:]
    if not isinstance(first, int) or not isinstance(second, int):
        return None
    shape: Shape = (first - unread, second) if first < second else (first, second - unread)
    if min(size for size in shape if isinstance(size, int)) < _LEAST_ROW:
        return None
    return BoxesBesideMasks(name, (outputs[name][0], *shape), unread)


def one_by_one(outputs: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    """Return the outputs of a model of several, those last that were of use in the training alone; else nothing."""
    named = sorted(outputs.items(), key=lambda one: _BESIDE in one[0].lower())
    return tuple(named) if len(named) > 1 else ()
