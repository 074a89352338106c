"""Compares a recipe that a worker made of its source with what the source's own code makes of pictures."""

from __future__ import annotations

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
# another filter or a crop that is off by some pixels makes several levels.
_LEVELS = 1.5
_MOST_SIDE = 4096


def checked_preparation(folder: Path, facts: SourceFacts) -> SourceFacts:
    """Return the facts without their preparation of pictures, and with a note, where the source does it otherwise.

    A worker that wrote no pictures is not compared. Raises one of ``UNREADABLE`` for a file that is not to be used.
    """
    path = folder / PICTURES
    if facts.preprocessing is None or not path.is_file():
        return facts
    why = next((w for pair in read_pairs(path) if (w := _difference(pair, facts.preprocessing)) is not None), None)
    if why is None:
        return facts
    note = (
        f"no recipe for pictures is taken of it: {why}; give one that prepares them as {facts.framework} does: --recipe"
    )
    return replace(facts, preprocessing=None, notes=(*facts.notes, note))


def _difference(pair: Pair, preprocessing: Preprocessing) -> str | None:
    """Return by how much the recipe's answer is another than the source's; None where it is not."""
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
    return None if levels <= _LEVELS else f"on a picture of {size} it differs by {levels:.1f} of 255 levels"


def _made(picture: Array, preprocessing: Preprocessing) -> Array | str:
    from PIL import Image

    from edgepack.data.preprocess import prepare_image

    try:
        return prepare_image(Image.fromarray(picture), preprocessing)[0]
    except DataError as error:
        return error.message
