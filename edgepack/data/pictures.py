"""Picture files as samples, whatever says which they are: a folder, COCO's JSON, a YOLO folder, ..."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.shapes import show_shape
from edgepack.data.checks import check_dtype, check_shape, check_values, fits
from edgepack.data.geometry import frame_of
from edgepack.data.preprocess import (
    decode_picture,
    decode_pixels,
    picture_shape,
    read_picture_file,
    read_picture_size,
)
from edgepack.data.source import Bad, Item
from edgepack.errors import DataError, RecipeError
from edgepack.specs.data import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Frame

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def digest_of_file(path: Path, digest: Callable[[Path], str]) -> str:
    """Return the sha256 of a sample's file. Raises ``DataError``."""
    try:
        return digest(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error


def find_broken(paths: Sequence[Path]) -> tuple[Bad, ...]:
    """Return the pictures that cannot be decoded, each with the reason."""
    bad = []
    for index, path in enumerate(paths):
        try:
            decode_pixels(read_picture_file(path), str(path), "RGB")
        except DataError as error:
            bad.append(Bad(index, error.message, error.hint))
    return tuple(bad)


def find_size(path: Path) -> tuple[int, int]:
    """Return height and width of a picture file as it is looked at; one that did not change is looked at once.

    Raises ``DataError``.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    return _known_size(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=200_000)
def _known_size(path: Path, _changed: int, _size: int) -> tuple[int, int]:
    return read_picture_size(path)


def frame_of_file(path: Path, preprocessing: Preprocessing | None) -> Frame:
    """Return where a picture lies in the model's input; only the head of its file is decoded."""
    return frame_of(*find_size(path), preprocessing or Preprocessing())


def check_inputs(source: str, preprocessing: Preprocessing | None, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """Return the one input that pictures feed. Raises ``DataError`` when the preprocessing does not fit it."""
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"the model has {len(inputs)} inputs ({names}), pictures can feed only one",
            hint="give a .npz with an array for each input, or module:callable",
        )
    made = made_by(source, preprocessing)
    check_dtype(np.dtype(made.dtype), inputs[0], "the recipe")
    shape = (1, *picture_shape(made))
    # A side that depends on the picture fits here; the picture itself is checked when it is read.
    sizes = zip(shape, inputs[0].shape, strict=False)
    known = tuple(want if isinstance(have, str) else have for have, want in sizes)
    if len(shape) != len(inputs[0].shape) or not fits(known, inputs[0]):
        raise DataError(
            f"the recipe makes pictures of shape {show_shape(shape)}, but the model's input {inputs[0].name!r} is "
            f"{show_shape(inputs[0].shape)}",
            hint=_shape_hint(shape, inputs[0]),
        )
    return inputs[0]


def _shape_hint(shape: tuple[int | str, ...], spec: TensorSpec) -> str:
    """Return how to come to a recipe that fits: where only sides differ, by a copy with those of the model."""
    sides = [axis for axis, size in enumerate(shape) if axis and size not in (1, 3)]
    wanted = [spec.shape[axis] for axis in sides] if len(spec.shape) == len(shape) == 4 else []
    same = len(wanted) == 2 and fits(tuple(spec.shape[a] if a in sides else shape[a] for a in range(4)), spec)
    if same and all(isinstance(size, int) for size in wanted):
        size = "x".join(map(str, wanted))
        return (
            f"make a copy of it for that size with 'edgepack recipes new own.toml --from RECIPE --size {size}', "
            "and add --recipe own.toml"
        )
    return "choose a recipe with the model's size, layout (NCHW or NHWC) and channels"


def read_files(
    source: str,
    paths: Sequence[Path],
    preprocessing: Preprocessing | None,
    inputs: tuple[TensorSpec, ...],
    labels: Sequence[Any] | None,
) -> Iterator[Item]:
    """Yield picture files as samples, decoded one at a time, each with one of ``labels``. Raises ``DataError``."""
    spec = check_inputs(source, preprocessing, inputs)
    made = made_by(source, preprocessing)
    for number, path in enumerate(paths):
        data = read_picture_file(path)
        array = decode_picture(data, str(path), made)[None]
        check_shape(array.shape, spec, str(path))
        check_values(array, spec.name, str(path))
        yield Item({spec.name: array}, hashlib.sha256(data).hexdigest(), None if labels is None else labels[number])


def made_by(source: str, preprocessing: Preprocessing | None) -> Preprocessing:
    """Return the preprocessing that pictures need. Raises ``RecipeError`` without one."""
    if preprocessing is None:
        raise RecipeError(f"{source} contains pictures, and no recipe says how to preprocess them")
    return preprocessing
