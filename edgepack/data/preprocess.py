"""Turns a picture file into the model's input, by a recipe's preprocessing."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.files import read_regular
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


def read_picture(path: Path, preprocessing: Preprocessing) -> Array:
    """Return one picture as [channels, height, width] or [height, width, channels], without a batch axis.

    Raises ``DataError`` naming the file for anything that is not a whole picture of a usual kind.
    """
    try:
        data = read_regular(path, MOST_FILE_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    return decode_picture(data, str(path), preprocessing)


def decode_picture(data: bytes, name: str, preprocessing: Preprocessing) -> Array:
    """Return the bytes of a picture file as the model's input; see ``read_picture``. ``name`` is for messages."""
    return normalize(open_picture(data, name, preprocessing), preprocessing)


def open_picture(data: bytes, name: str, preprocessing: Preprocessing) -> Array:
    """Decode, turn upright (EXIF), convert the colours, resize and crop; uint8 [height, width, channels]."""
    image = _decode(data, name)
    color = "L" if preprocessing.color == "L" else "RGB"
    image = _crop(_resize(_convert(image, color, name), preprocessing, name), preprocessing, name)
    pixels = np.asarray(image)
    if color == "L":
        return pixels[:, :, None]
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
    height, width = preprocessing.crop or preprocessing.resize or ("height", "width")
    return (channels, height, width) if preprocessing.layout == "NCHW" else (height, width, channels)


def _decode(data: bytes, name: str) -> Image.Image:
    """Return the first frame, whole and upright."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ToolchainError(
            "Pillow is not installed, so pictures cannot be read", hint="pip install pillow"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata does not matter; the pixels are checked by decoding them
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image.size, name)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError(
                f"{name} is not a picture that can be read",
                hint="remove the file, or convert it to PNG or JPEG: it is damaged or of another format",
            ) from None
        except Exception as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, struct.error, ...
            raise DataError(
                f"{name} is not a picture that can be read: {error}",
                hint="remove the file or copy it again: it is damaged, cut short, or of another format",
            ) from error


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


def _resize(image: Image.Image, preprocessing: Preprocessing, name: str) -> Image.Image:
    """Resize by Pillow's antialiased filters; ``resize_short`` truncates the longer side as torchvision's Resize."""
    width, height = image.size
    if preprocessing.resize is not None:
        size = (preprocessing.resize[1], preprocessing.resize[0])
    elif preprocessing.resize_short is not None:
        short = preprocessing.resize_short
        long = int(short * max(width, height) / min(width, height))
        size = (short, long) if width <= height else (long, short)
    else:
        return image
    _check_size(size, f"{name} after resizing")
    return image if size == image.size else image.resize(size, _filters()[preprocessing.interpolation])


def _filters() -> dict[str, Image.Resampling]:
    from PIL import Image

    kinds = Image.Resampling
    return {"nearest": kinds.NEAREST, "bilinear": kinds.BILINEAR, "bicubic": kinds.BICUBIC, "lanczos": kinds.LANCZOS}


def _crop(image: Image.Image, preprocessing: Preprocessing, name: str) -> Image.Image:
    """Cut out the centre, rounding as torchvision's CenterCrop."""
    if preprocessing.crop is None:
        return image
    height, width = preprocessing.crop
    if image.width < width or image.height < height:
        raise DataError(
            f"{name} is {image.width}x{image.height} where a crop of {width}x{height} is taken",
            hint="add resize_short to the recipe, or remove the picture",
        )
    left = round((image.width - width) / 2.0)
    top = round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
