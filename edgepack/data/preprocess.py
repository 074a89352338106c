"""Turns a picture file into the model's input, by a recipe's preprocessing."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np

from edgepack.base.files import open_regular, read_regular
from edgepack.data.geometry import Geometry, geometry_of, multiple
from edgepack.data.resample import resize
from edgepack.errors import DataError, ToolchainError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from edgepack.specs.data import Preprocessing
    from edgepack.specs.types import Array

# Only these decoders of Pillow are used (JPEG opens MPO too): others start programs (EPS) or are hardly ever tested.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

# Larger pictures than this, before or after resizing, are taken for decompression bombs; it is about Pillow's limit.
MOST_PIXELS = 100_000_000
MOST_FILE_BYTES = 1 << 30
_IMAGE = "the image"  # of a picture that is not a file
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values for pictures that lie on their side


def read_picture(path: Path, preprocessing: Preprocessing) -> Array:
    """Return one picture as [channels, height, width] or [height, width, channels], without a batch axis.

    Raises ``DataError`` naming the file for anything that is not a whole picture of a usual kind.
    """
    data = read_picture_file(path)
    return decode_picture(data, str(path), preprocessing)


def read_picture_file(path: Path) -> bytes:
    """Return the bytes of a picture file. Raises ``DataError``."""
    try:
        return read_regular(path, MOST_FILE_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error


def read_picture_size(path: Path) -> tuple[int, int]:
    """Return height and width of a picture file as it is looked at (EXIF); only its head is read.

    Raises ``DataError``.
    """
    try:
        with open_regular(path) as file:
            return _size_of(file, str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """Return height and width of the bytes of a picture file, see ``read_picture_size``. Raises ``DataError``."""
    return _size_of(io.BytesIO(data), name)


def _size_of(file: IO[bytes], name: str) -> tuple[int, int]:
    image = _open(file, name)
    try:
        turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
    except Exception:  # odd metadata: it is shown as it lies
        turned = False
    return (image.width, image.height) if turned else (image.height, image.width)


def decode_picture(data: bytes, name: str, preprocessing: Preprocessing) -> Array:
    """Return the bytes of a picture file as the model's input; see ``read_picture``. ``name`` is for messages."""
    return normalize(open_picture(data, name, preprocessing), preprocessing)


def decode_pixels(data: bytes, name: str, color: str = "RGB") -> Array:
    """Decode, turn upright (EXIF) and convert the colours; uint8 [height, width, channels] of RGB or L."""
    pixels = np.asarray(_convert(_decode(data, name), color, name))
    return pixels[:, :, None] if color == "L" else pixels


def decode_indices(data: bytes, name: str) -> Array:
    """Decode a picture whose values are numbers, of grey or of a palette; uint16 [height, width].

    It is taken as it lies. Raises ``DataError`` for one of colours, which number nothing.
    """
    image = _open(io.BytesIO(data), name)
    with _unreadable(name):
        image.load()
    if image.mode not in ("P", "L", "1", "I;16", "I;16B", "I;16L", "I"):
        raise DataError(f"{name} is a picture of colours, not of numbers", hint="save masks as grey or palette PNG")
    values = np.asarray(image)
    if values.size and (int(values.min()) < 0 or int(values.max()) > np.iinfo(np.uint16).max):
        raise DataError(f"{name} has values beyond 16 bits", hint="save masks as grey or palette PNG")
    return values.astype(np.uint16)


def open_picture(data: bytes, name: str, preprocessing: Preprocessing) -> Array:
    """Decode, turn upright (EXIF), convert the colours, resize and crop; uint8 [height, width, channels]."""
    return _placed(_decode(data, name), name, preprocessing)


def prepare_image(image: Image.Image, preprocessing: Preprocessing) -> tuple[Array, tuple[int, int]]:
    """Return an open picture of Pillow as the model's input, as its file would be, and its height and width.

    The image itself is not changed. Raises ``DataError``.
    """
    upright = upright_image(image)
    return normalize(_placed(upright, _IMAGE, preprocessing), preprocessing), (upright.height, upright.width)


def upright_image(image: Image.Image) -> Image.Image:
    """Return an open picture of Pillow, whole and upright (EXIF). Raises ``DataError``."""
    from PIL import ImageOps

    _check_size(image.size, _IMAGE)
    with warnings.catch_warnings(), _unreadable(_IMAGE):
        warnings.simplefilter("ignore")
        image.load()
        return ImageOps.exif_transpose(image)


def image_pixels(image: Image.Image) -> Array:
    """Return an open picture of Pillow upright as uint8 [height, width, 3]. Raises ``DataError``."""
    return np.asarray(_convert(upright_image(image), "RGB", _IMAGE))


def _placed(image: Image.Image, name: str, preprocessing: Preprocessing) -> Array:
    """Convert, resize and crop an upright picture; uint8 [height, width, channels]."""
    color = "L" if preprocessing.color == "L" else "RGB"
    image = _convert(image, color, name)
    found = geometry_of(image.height, image.width, preprocessing)
    _check_resizing(image.height, found, name)
    _check_crop(found, preprocessing, name)
    if preprocessing.resampler == "pillow":
        pixels = np.asarray(_resized(image, found.size, preprocessing.interpolation))
    else:
        pixels = np.asarray(image)
        pixels = resize(pixels if pixels.ndim == 3 else pixels[:, :, None], found.size, preprocessing.interpolation,
                        preprocessing.resampler)  # fmt: skip
    return _arranged(pixels if pixels.ndim == 3 else pixels[:, :, None], found, preprocessing)


def _resized(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Return a picture resized to ``size`` (height, width), along the width first, as ``resample.resize`` does.

    Pillow went this way up to version 12, with which models were trained; 13 goes the shorter one, and what overshoots
    (bicubic, lanczos) is then cut off between the two at other places: by up to 50 of 255.
    """
    for step in ((size[1], image.height), (size[1], size[0])):
        image = image if step == image.size else image.resize(step, _filters()[interpolation])
    return image


def prepare_pixels(pixels: Array, preprocessing: Preprocessing, name: str = "the array") -> Array:
    """Return uint8 pixels [height, width, 3] of RGB, or [height, width] of grey, as the model's input, without Pillow.

    The result is that of the same picture read from a file. Raises ``DataError`` for an array that is not a picture.
    """
    pixels = _checked_pixels(pixels, preprocessing.color == "L", name)
    found = geometry_of(pixels.shape[0], pixels.shape[1], preprocessing)
    _check_resizing(pixels.shape[0], found, name)
    _check_crop(found, preprocessing, name)
    resized = resize(pixels, found.size, preprocessing.interpolation, preprocessing.resampler)
    return normalize(_arranged(resized, found, preprocessing), preprocessing)


def _checked_pixels(pixels: Array, grey: bool, name: str) -> Array:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise DataError(
            f"{name} is {pixels.dtype} {list(pixels.shape)}, not a picture",
            hint="give uint8 pixels [height, width, 3] in the order R, G, B, or [height, width] of grey",
        )
    _check_size((pixels.shape[1], pixels.shape[0]), name)
    if grey and pixels.shape[2] == 3:  # as Pillow's convert("L"): ITU-R 601-2, in 16 bits
        sums = pixels.astype(np.int32) @ np.array([19595, 38470, 7471], np.int32) + 0x8000
        return (sums >> 16).astype(np.uint8)[:, :, None]
    return pixels if grey or pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _arranged(pixels: Array, found: Geometry, preprocessing: Preprocessing) -> Array:
    """Return resized pixels cut out or padded, in the recipe's order of colours."""
    height, width = found.canvas
    if found.top < 0 or found.left < 0 or (height, width) != found.size:
        top, left = max(found.top, 0), max(found.left, 0)
        part = pixels[max(-found.top, 0) :, max(-found.left, 0) :][: height - top, : width - left]
        if part.shape[:2] != (height, width):
            canvas = np.full((height, width, pixels.shape[2]), preprocessing.pad, np.uint8)
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            part = canvas
        pixels = part
    return pixels[:, :, ::-1] if preprocessing.color == "BGR" else pixels


def normalize(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Return ``(pixel * scale - mean) / std`` of uint8 pixels [height, width, channels], in the recipe's layout.

    A pixel has only 256 values, so the formula is computed in float64 for those and looked up.
    """
    if preprocessing.dtype == "uint8":
        result = pixels if preprocessing.layout == "NHWC" else pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(result)
    channels = pixels.shape[2]
    mean = np.asarray(preprocessing.mean[:channels], np.float64)
    std = np.asarray(preprocessing.std[:channels], np.float64)
    values = np.arange(256, dtype=np.float64) * preprocessing.scale
    table = ((values[None, :] - mean[:, None]) / std[:, None]).astype(np.float32)
    planes = [table[channel].take(pixels[:, :, channel]) for channel in range(channels)]
    return np.stack(planes, axis=0 if preprocessing.layout == "NCHW" else 2)


def picture_shape(preprocessing: Preprocessing) -> tuple[int | str, ...]:
    """Return the shape that ``read_picture`` gives; a size that depends on the picture is a string."""
    channels = 1 if preprocessing.color == "L" else 3
    height, width = _sides(preprocessing)
    return (channels, height, width) if preprocessing.layout == "NCHW" else (height, width, channels)


def _sides(made: Preprocessing) -> tuple[int | str, int | str]:
    if made.letterbox and made.stride is not None:
        height = multiple(made.resize[0], made.stride) if made.fixed_height and made.resize else "height"
        return height, "width"
    return made.crop or made.resize or ("height", "width")


def _decode(data: bytes, name: str) -> Image.Image:
    """Return the first frame, whole and upright."""
    image = _open(io.BytesIO(data), name)
    with warnings.catch_warnings(), _unreadable(name):
        warnings.simplefilter("ignore")  # odd metadata does not matter; the pixels are checked by decoding them
        from PIL import ImageOps

        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _open(file: IO[bytes], name: str) -> Image.Image:
    """Return a picture of a usual kind and size, its pixels not decoded yet."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ToolchainError(
            "Pillow is not installed, so pictures cannot be read", hint="pip install pillow"
        ) from error
    with warnings.catch_warnings(), _unreadable(name):
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError(
                f"{name} is not a picture that can be read",
                hint="remove the file, or convert it to PNG or JPEG: it is damaged or of another format",
            ) from None
        _check_size(image.size, name)
    return image


@contextmanager
def _unreadable(name: str) -> Iterator[None]:
    """Make a ``DataError`` of what Pillow's decoders raise: OSError, SyntaxError, struct.error, ..."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name} is not a picture that can be read: {error}",
            hint="remove the file or copy it again: it is damaged, cut short, or of another format",
        ) from error


def _check_resizing(height: int, found: Geometry, name: str) -> None:
    """Raise ``DataError`` where a picture of ``height`` would become too large, or be so between the two steps."""
    _check_size(found.size[::-1], f"{name} after resizing")
    _check_size((found.size[1], height), f"{name} while it is resized")


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DataError(f"{name} is an empty picture ({width}x{height})", hint="remove the file")
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{name} is {width}x{height} pixels, more than the {MOST_PIXELS} that are read",
            hint="scale the picture down first, or remove it",
        )


def _convert(image: Image.Image, color: str, name: str) -> Image.Image:
    """Return the picture in 8 bits as RGB or L.

    An alpha channel is dropped, as ``Image.convert("RGB")`` in torchvision's and timm's loaders does, because that is
    what models were trained with. 16-bit grey is scaled to 8 bits (value / 257); Pillow alone would clip it.
    """
    if image.mode.startswith("I"):
        image = _from_integers(image, name)
    if image.mode == "F":
        raise DataError(
            f"{name} holds floating-point pixels, whose range is not known", hint="save it as 8-bit PNG or give a .npz"
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La"):
        image = image.getchannel("L")
    return image if image.mode == color else image.convert(color)


def _from_integers(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{name} holds 32-bit pixels, whose range is not known", hint="save it as 8- or 16-bit PNG")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _filters() -> dict[str, Image.Resampling]:
    from PIL import Image

    kinds = Image.Resampling
    return {
        "nearest": kinds.NEAREST,
        "area": kinds.BOX,
        "bilinear": kinds.BILINEAR,
        "bicubic": kinds.BICUBIC,
        "lanczos": kinds.LANCZOS,
    }


def _check_crop(found: Geometry, preprocessing: Preprocessing, name: str) -> None:
    if preprocessing.crop is None:
        return
    (height, width), (crop_height, crop_width) = found.size, preprocessing.crop
    if width < crop_width or height < crop_height:
        raise DataError(
            f"{name} is {width}x{height} where a crop of {crop_width}x{crop_height} is taken",
            hint="add resize_short to the recipe, or remove the picture",
        )
