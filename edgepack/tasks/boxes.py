"""Boxes: overlap, non-maximum suppression, and back into the picture; numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.task import Frame
    from edgepack.specs.types import Array

_AT_ONCE = 128  # boxes whose overlaps are looked at together: a small table, of which few rows are needed


def overlaps(first: Array, second: Array) -> Array:
    """Return intersection over union of corners [n, 4] and [m, 4] as [n, m]; 0 for boxes without an area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    total = areas(first)[:, None] + areas(second)[None] - shared
    result: Array = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return result


def likeness(first: Array, second: Array) -> Array:
    """Return by how much corners [n, 4] and [m, 4] are alike, 0 to 1: their overlap, and 1 where they are equal.

    A box in a letterbox's padding has no area in the picture, and is the same as itself all the same.
    """
    return np.where((first[:, None] == second[None]).all(axis=2), 1.0, overlaps(first, second))


def pair(fits: Array, least: float) -> Array:
    """Return which rows and columns of ``fits`` [n, m] belong together, bool [n, m], none of either twice.

    Pairs are made from the best fit down to ``least``, which is above 0.
    """
    result = np.zeros(fits.shape, bool)
    rows, columns = np.zeros(fits.shape[0], bool), np.zeros(fits.shape[1], bool)
    for place in np.argsort(-fits, axis=None, kind="stable"):
        i, j = np.unravel_index(place, fits.shape)
        if fits[i, j] < least:
            break
        if not rows[i] and not columns[j]:
            rows[i] = columns[j] = result[i, j] = True
    return result


def areas(corners: Array) -> Array:
    """Return the areas [n] of corners [n, 4]."""
    result: Array = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return result


def suppress(corners: Array, scores: Array, numbers: Array | None, iou: float, most: int) -> Array:
    """Return the indices that non-maximum suppression keeps, best first, at most ``most``.

    Torchvision's definition (``ops.nms``, ``ops.batched_nms``): the best box is kept, and all that overlap it by more
    than ``iou`` go; then the best of those left. With ``numbers`` [n] only boxes of the same class suppress each other.
    """
    waiting = np.argsort(-scores, kind="stable")
    kept: list[Array] = []
    count = 0
    while waiting.size and count < most:
        now, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        new = now[_alone(_suppressing(corners, numbers, now, now, iou))]
        kept.append(new)
        count += len(new)
        if waiting.size and count < most:
            waiting = waiting[~_suppressing(corners, numbers, new, waiting, iou).any(axis=0)]
    return np.concatenate(kept)[:most] if kept else np.zeros(0, np.intp)


def _suppressing(corners: Array, numbers: Array | None, first: Array, second: Array, iou: float) -> Array:
    found: Array = overlaps(corners[first], corners[second]) > iou
    if numbers is not None:
        found &= numbers[first][:, None] == numbers[second][None]
    return found


def _alone(suppressing: Array) -> Array:
    """Return which of some boxes, best first, are left when each that is left suppresses those behind it."""
    left = np.ones(len(suppressing), bool)
    for i in range(len(suppressing)):
        if left[i]:
            left[i + 1 :] &= ~suppressing[i, i + 1 :]
    return left


def from_centers(boxes: Array) -> Array:
    """Return corners of boxes [n, 4] that are center x, center y, width and height."""
    half = boxes[:, 2:4] * 0.5
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def to_picture(corners: Array, frame: Frame) -> Array:
    """Return corners [n, 4] in pixels of the input as pixels of the picture, cut at its sides; float64."""
    offset = np.array([frame.offset_x, frame.offset_y] * 2)
    scale = np.array([frame.scale_x, frame.scale_y] * 2)
    found: Array = (corners.astype(np.float64) - offset) / scale
    if frame.height and frame.width:
        np.clip(found, 0, np.array([frame.width, frame.height] * 2), out=found)
    return found


def points_to_picture(points: Array, frame: Frame) -> Array:
    """Return points [n, k, 3] (x, y, score) in pixels of the input as pixels of the picture; float64."""
    found = points.astype(np.float64)
    found[..., 0] = (found[..., 0] - frame.offset_x) / frame.scale_x
    found[..., 1] = (found[..., 1] - frame.offset_y) / frame.scale_y
    return found
