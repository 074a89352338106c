"""Compares a recipe that a worker made of its source with what the source's own code makes of pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import DataError
from edgepack.export.pairs import Pair, read_pairs

if TYPE_CHECKING:
    from edgepack.specs.data import Preprocessing
    from edgepack.specs.source import SourceFacts
    from edgepack.specs.types import Array

PICTURES = "pictures.npz"
_PICTURE, _PREPARED = "picture", "prepared"
# In levels of 255, as a mean over all pixels. Libraries that mean the same differ by their roundings, less than one;
# another filter makes one to four, a crop that is off by a tenth five, other colours dozens.
_SAME, _NEAR = 1.0, 4.0
_MOST_SIDE = 4096


def checked_preparation(folder: Path, facts: SourceFacts) -> SourceFacts:
    """Return the facts without their preparation of pictures where the source does it otherwise, and a note.

    One that comes near is kept, and its note says how near. A worker that wrote no pictures is not compared. Raises
    one of ``UNREADABLE`` for a file that is not to be used.
    """
    path = folder / PICTURES
    if facts.preprocessing is None or not path.is_file():
        return facts
    found = [_difference(pair, facts.preprocessing) for pair in read_pairs(path)]
    shapes = next((why for why in found if isinstance(why, str)), None)
    levels = max((one for one in found if not isinstance(one, str)), default=0.0)
    if shapes is None and levels <= _SAME:
        return facts
    why = shapes or f"on test pictures the two differ by {levels:.1f} of 255 levels"
    if shapes is None and levels <= _NEAR:
        note = f"the recipe for pictures only comes near to what {facts.framework} does: {why}"
        return replace(facts, notes=(*facts.notes, note))
    note = f"no recipe for pictures is taken from {facts.framework}, whose own steps none can say: {why}; give --recipe"
    return replace(facts, preprocessing=None, notes=(*facts.notes, note))


def _difference(pair: Pair, preprocessing: Preprocessing) -> float | str:
    """Return by how many levels the recipe's answer is another than the source's, or why they cannot be compared."""
    import numpy as np

    picture, prepared = pair[0][_PICTURE], pair[1][_PREPARED]
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or max(picture.shape) > _MOST_SIDE:
        raise ValueError("its pictures are none")
    made = _made(picture, preprocessing)
    if isinstance(made, str):
        return made
    size = " x ".join(str(side) for side in picture.shape[1::-1])
    if made.shape != prepared.shape:
        return f"it makes {list(prepared.shape)} of a picture of {size}, not {list(made.shape)}"
    per_level = np.asarray(preprocessing.std) / np.float64(preprocessing.scale)
    aligned = per_level if preprocessing.layout == "NHWC" else per_level[:, None, None]
    with np.errstate(all="ignore"):
        levels = float(np.abs((made - prepared) * aligned).mean())
    return levels if math.isfinite(levels) else "it makes no numbers"


def _made(picture: Array, preprocessing: Preprocessing) -> Array | str:
    from PIL import Image

    from edgepack.data.preprocess import prepare_image

    try:
        return prepare_image(Image.fromarray(picture), preprocessing)[0]
    except DataError as error:
        return error.message
