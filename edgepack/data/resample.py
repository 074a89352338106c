"""Resizes pixels with numpy alone, as Pillow does and as OpenCV does: two definitions of the same names.

Pillow's filters widen when a picture shrinks, so that every pixel counts; OpenCV's do not (but for ``area``), so that
most pixels of a large picture do not count. A model knows the one that it was trained with. Sources: Pillow,
src/libImaging/Resample.c (``precompute_coeffs``, ``normalize_coeffs_8bpc``); OpenCV, modules/imgproc/src/resize.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array

_PILLOW_BITS = 22  # PRECISION_BITS: 32 of an accumulator, less 8 of the result and 2 for overshoot
_OPENCV_BITS = 11  # INTER_RESIZE_COEF_BITS


@dataclass(frozen=True)
class Taps:
    """What each place of a line is made from: positions in the old line and weights, both [taps, places]."""

    positions: Array
    weights: Array


def resize(pixels: Array, size: tuple[int, int], interpolation: str, resampler: str) -> Array:
    """Return uint8 pixels [height, width, channels] resized to ``size`` (height, width).

    ``resampler`` is "pillow" (nearest, area, bilinear, bicubic, lanczos; equal to Pillow's bit by bit, when that goes
    along the width first, as it did up to version 12) or "opencv" (nearest, area, bilinear, bicubic; within one grey
    level of OpenCV's).
    """
    if pixels.shape[:2] == size:
        return pixels
    if interpolation == "nearest":
        return _nearest(pixels, size, resampler)
    return _pillow(pixels, size, interpolation) if resampler == "pillow" else _opencv(pixels, size, interpolation)


def _nearest(pixels: Array, size: tuple[int, int], resampler: str) -> Array:
    rows, columns = (_nearest_places(old, new, resampler) for new, old in zip(size, pixels.shape, strict=False))
    return np.ascontiguousarray(pixels[rows][:, columns])


def _nearest_places(old: int, new: int, resampler: str) -> Array:
    scale = old / new
    if resampler == "opencv":
        places = np.arange(new) * _opencv_scale(old, new)
    else:  # Pillow steps from the middle of the first pixel and adds up
        places = np.add.accumulate(np.concatenate([[scale * 0.5], np.full(new - 1, scale)]))
    result: Array = np.minimum(np.floor(places).astype(np.intp), old - 1)
    return result


def _along(pixels: Array, taps: Taps, axis: int, dtype: Any) -> Array:
    """Return the sums of pixels by their weights along one axis."""
    shape = [1, 1, 1]
    shape[axis] = taps.positions.shape[1]
    total: Array | None = None
    for positions, weights in zip(taps.positions, taps.weights, strict=True):
        part = np.take(pixels, positions, axis=axis).astype(dtype)
        part *= weights.astype(dtype).reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


# --- Pillow -----------------------------------------------------------------------------------------------------------


def _box(x: Array) -> Array:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _triangle(x: Array) -> Array:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: Array) -> Array:
    a, x = -0.5, np.abs(x)
    near, far = ((a + 2.0) * x - (a + 3.0)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Array) -> Array:
    return np.where((x >= -3.0) & (x < 3.0), np.sinc(x) * np.sinc(x / 3), 0.0)


_FILTERS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "area": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def _pillow(pixels: Array, size: tuple[int, int], interpolation: str) -> Array:
    """Resize along the width, then along the height, with 8 bits between: Pillow does so too."""
    for axis in (1, 0):
        if pixels.shape[axis] != size[axis]:
            sums = _along(pixels, _pillow_taps(pixels.shape[axis], size[axis], interpolation), axis, np.int32)
            sums += 1 << (_PILLOW_BITS - 1)
            pixels = np.clip(sums >> _PILLOW_BITS, 0, 255).astype(np.uint8)
    return pixels


def _pillow_taps(old: int, new: int, interpolation: str) -> Taps:
    function, reach = _FILTERS[interpolation]
    scale = old / new
    widened = max(scale, 1.0)
    support = reach * widened
    centers = (np.arange(new) + 0.5) * scale
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + support + 0.5).astype(np.int64), old)
    places = first[None] + np.arange(math.ceil(support) * 2 + 1)[:, None]
    inside = places < last[None]
    weights = np.where(inside, function((places - centers[None] + 0.5) / widened), 0.0)
    sums = weights.sum(axis=0)
    weights /= np.where(sums == 0, 1.0, sums)
    whole = np.trunc(weights * (1 << _PILLOW_BITS) + np.where(weights < 0, -0.5, 0.5)).astype(np.int64)
    used = whole.any(axis=1)
    return Taps(np.minimum(places, old - 1)[used], whole[used])


# --- OpenCV -----------------------------------------------------------------------------------------------------------


def _opencv_scale(old: int, new: int) -> float:
    return 1.0 / (new / old)  # in two steps, as the last bit decides which of two pixels is nearest


def _opencv(pixels: Array, size: tuple[int, int], interpolation: str) -> Array:
    height, width = pixels.shape[:2]
    shrinks = size[0] <= height and size[1] <= width  # else area is a kind of bilinear
    halves = (height, width) == (2 * size[0], 2 * size[1])
    if (interpolation == "area" and shrinks) or (interpolation == "bilinear" and halves):  # so OpenCV does
        return _area(pixels, size)
    if interpolation == "bicubic":
        return _opencv_cubic(pixels, size)
    enlarged_area = interpolation == "area"
    return _opencv_linear(pixels, size, enlarged_area=enlarged_area)


def _opencv_linear(pixels: Array, size: tuple[int, int], *, enlarged_area: bool) -> Array:
    across = _along(pixels, _linear_taps(pixels.shape[1], size[1], enlarged_area), 1, np.int32)
    across >>= 4
    taps = _linear_taps(pixels.shape[0], size[0], enlarged_area)
    total = np.full((size[0], size[1], pixels.shape[2]), 2, np.int32)
    for positions, weights in zip(taps.positions, taps.weights, strict=True):
        part = across[positions]
        part *= weights.astype(np.int32)[:, None, None]
        total += part >> 16
    result: Array = np.clip(total >> 2, 0, 255).astype(np.uint8)
    return result


def _linear_taps(old: int, new: int, enlarged_area: bool) -> Taps:
    scale, places = _opencv_scale(old, new), np.arange(new)
    if enlarged_area:
        first = np.floor(places * scale).astype(np.int64)
        share = ((places + 1) - (first + 1) * (new / old)).astype(np.float32)
        share = np.where(share <= 0, 0, share - np.floor(share))
    else:
        found = ((places + 0.5) * scale - 0.5).astype(np.float32)
        first = np.floor(found).astype(np.int64)
        share = found - first
    share = np.where((first < 0) | (first >= old - 1), 0, share).astype(np.float32)
    first = np.clip(first, 0, old - 1)
    weights = np.rint(np.stack([1 - share, share]) * (1 << _OPENCV_BITS)).astype(np.int64)
    return Taps(np.stack([first, np.minimum(first + 1, old - 1)]), weights)


def _opencv_cubic(pixels: Array, size: tuple[int, int]) -> Array:
    across = _along(pixels, _cubic_taps(pixels.shape[1], size[1]), 1, np.int64)
    sums = _along(across, _cubic_taps(pixels.shape[0], size[0]), 0, np.int64)
    sums += 1 << (2 * _OPENCV_BITS - 1)
    result: Array = np.clip(sums >> (2 * _OPENCV_BITS), 0, 255).astype(np.uint8)
    return result


def _cubic_taps(old: int, new: int) -> Taps:
    found = ((np.arange(new) + 0.5) * _opencv_scale(old, new) - 0.5).astype(np.float32)
    first = np.floor(found).astype(np.int64)
    x, a = (found - first).astype(np.float32), np.float32(-0.75)
    one = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    two = ((a + 2) * x - (a + 3)) * x * x + 1
    three = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    weights = np.stack([one, two, three, 1 - one - two - three])
    positions = np.clip(first[None] + np.arange(-1, 3)[:, None], 0, old - 1)
    return Taps(positions, np.rint(weights * (1 << _OPENCV_BITS)).astype(np.int64))


def _area(pixels: Array, size: tuple[int, int]) -> Array:
    """Average over what each new pixel covers; parts of pixels count by their share."""
    across = _along(pixels, _area_taps(pixels.shape[1], size[1]), 1, np.float32)
    found = _along(across, _area_taps(pixels.shape[0], size[0]), 0, np.float32)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def _area_taps(old: int, new: int) -> Taps:
    scale = old / new
    begin = np.arange(new) * scale
    end = np.minimum(begin + scale, old)
    places = np.floor(begin).astype(np.int64)[None] + np.arange(math.ceil(scale) + 1)[:, None]
    covered = np.clip(np.minimum(places + 1, end[None]) - np.maximum(places, begin[None]), 0, 1)
    return Taps(np.minimum(places, old - 1), covered / covered.sum(axis=0))
