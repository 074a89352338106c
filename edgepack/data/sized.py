"""A recipe's preprocessing for pictures of another size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace

from edgepack.specs.data import Preprocessing

Size = tuple[int, int]


def resized(made: Preprocessing, size: Size) -> Preprocessing:
    """Return a preprocessing that makes pictures of ``size`` (height, width) in the same way.

    A crop keeps its share of the resized picture. Out of a shorter side, that holds for a crop of the same ratio of
    sides; any other is the whole picture resized to ``size``, because a crop would leave most of a picture away.
    """
    made = replace(made, stride=None, least_width=None)
    if made.crop is None:
        return replace(made, resize=size, resize_short=None)
    if made.resize is not None:
        around = tuple(math.ceil(a * b / c) for a, b, c in zip(made.resize, size, made.crop, strict=True))
        return replace(made, resize=(around[0], around[1]), crop=size)
    if made.resize_short is None:
        return replace(made, crop=size)
    if made.crop[0] * size[1] != made.crop[1] * size[0]:
        return replace(made, resize=size, resize_short=None, crop=None)
    return replace(made, resize_short=math.ceil(made.resize_short * max(size) / max(made.crop)), crop=size)


def picture_size_of(made: Preprocessing) -> Size | None:
    """Return height and width of the pictures that are made; None where they depend on the picture."""
    return None if made.stride is not None else made.crop or made.resize


def size_changes(made: Preprocessing, size: Size) -> dict[str, str]:
    """Return what keys of a recipe become for ``size``, as TOML has them; an empty text is a key that goes."""
    before, after = asdict(made), asdict(resized(made, size))
    return {key: json.dumps(value) if value is not None else "" for key, value in after.items() if before[key] != value}


def size_asked(made: Preprocessing, shapes: Mapping[str, tuple[int | str, ...]]) -> Size | None:
    """Return height and width that the shape of a batch of pictures states; None where no shape or several do."""
    channels, top = (1, 2) if made.layout == "NCHW" else (3, 1)
    wanted = 1 if made.color == "L" else 3
    found = {shape[top : top + 2] for shape in shapes.values() if len(shape) == 4 and shape[channels] == wanted}
    height, width = found.pop() if len(found) == 1 else ("free", "free")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None
