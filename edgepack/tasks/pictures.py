"""Pictures as inputs: files, read by Pillow, or arrays, which need numpy alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.base.shapes import show_shape
from edgepack.data.geometry import frame_of
from edgepack.data.preprocess import (
    decode_picture,
    decode_pixels,
    image_pixels,
    picture_size,
    prepare_image,
    prepare_pixels,
    read_picture_file,
)
from edgepack.errors import DataError
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks import Making, Prepared


def prepare_picture(thing: Any, making: Making) -> Prepared:
    """Return the input that a picture becomes: a path, an image of Pillow, or uint8 [height, width, 3] of R, G, B.

    An array of the model's own shape and dtype is fed as it is. Raises ``DataError``.
    """
    if len(making.inputs) != 1:
        raise DataError(f"the model has {len(making.inputs)} inputs", hint="give arrays by name to infer()")
    spec, made = making.inputs[0], making.preprocessing
    if isinstance(thing, np.ndarray) and _is_input(thing, making):
        return Prepared({spec.name: thing}, frame_of_input(making))
    if made is None:
        raise DataError(
            "the bundle has no preprocessing for pictures",
            hint=f"give an array {spec.dtype} {show_shape(spec.shape)}, or build it with a recipe",
        )
    if isinstance(thing, np.ndarray):
        array = prepare_pixels(thing, made)
        return Prepared({spec.name: array[None]}, frame_of(thing.shape[0], thing.shape[1], made))
    if is_image(thing):
        array, (height, width) = prepare_image(thing, made)
        return Prepared({spec.name: array[None]}, frame_of(height, width, made))
    if not isinstance(thing, str | Path):
        raise DataError(f"a {type(thing).__name__} is not a picture", hint="give a path, an image or a numpy array")
    data = read_picture_file(Path(thing))
    frame = frame_of(*picture_size(data, str(thing)), made)
    return Prepared({spec.name: decode_picture(data, str(thing), made)[None]}, frame)


def open_pixels(thing: Any) -> Array:
    """Return a picture, a path, an image or an array, as uint8 [height, width, 3], to be drawn on."""
    if is_image(thing):
        return image_pixels(thing).copy()
    if isinstance(thing, np.ndarray):
        grey = thing.ndim == 2 or thing.shape[2] == 1
        return np.repeat(thing.reshape(*thing.shape[:2], 1), 3, axis=2) if grey else thing.copy()
    return decode_pixels(read_picture_file(Path(thing)), str(thing)).copy()


def is_image(thing: Any) -> bool:
    """Say whether a thing is an image of Pillow, which is not imported for it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(thing, pillow.Image)


def _is_input(thing: Array, making: Making) -> bool:
    spec = making.inputs[0]
    alike = len(thing.shape) == len(spec.shape) and all(
        isinstance(want, str) or want == have for have, want in zip(thing.shape, spec.shape, strict=True)
    )
    return alike and thing.dtype.name == spec.dtype


def frame_of_input(making: Making) -> Frame:
    """Return the frame of an input that is the thing itself: answers are in pixels of the input."""
    shape = making.inputs[0].shape
    layout = making.preprocessing.layout if making.preprocessing is not None else _layout(shape)
    sides = shape[2:4] if layout == "NCHW" else shape[1:3]
    height, width = (side if isinstance(side, int) else 0 for side in (*sides, 0, 0)[:2])
    return Frame(height=height, width=width, input_height=height, input_width=width)


def _layout(shape: tuple[int | str, ...]) -> str:
    return "NHWC" if len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
