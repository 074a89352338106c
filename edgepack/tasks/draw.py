"""Draws answers into pictures; lines with numpy alone, names with Pillow where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.specs.answer import Answer, Boxes, Mask
from edgepack.specs.types import Array

# Colours that are told apart, by class: Okabe and Ito 2008, jfly.uni-koeln.de/color.
_COLOURS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]],
    np.uint8,
)


def draw_boxes(picture: Array, answer: Answer) -> Array:
    """Return a copy of uint8 pixels [height, width, 3] with boxes, points and names drawn in."""
    assert isinstance(answer, Boxes)
    pixels = picture.copy()
    wide = max(1, round(min(pixels.shape[:2]) / 250))
    boxes = list(answer)[::-1]  # the best on top
    for box in boxes:
        colour = _COLOURS[box.number % len(_COLOURS)]
        left, top, right, bottom = (round(side) for side in (box.left, box.top, box.right, box.bottom))
        _outline(pixels, left, top, right, bottom, wide, colour)
        for x, y, score in box.points:
            if score > 0:
                _fill(pixels, round(x) - wide, round(y) - wide, round(x) + wide + 1, round(y) + wide + 1, colour)
    return _with_names(pixels, boxes)


def outline(pixels: Array, corners: Array, colour: tuple[int, int, int], wide: int = 1) -> None:
    """Draw the outlines of corners [n, 4] into uint8 pixels [height, width, 3], in place."""
    for row in corners.tolist():
        left, top, right, bottom = (round(side) for side in row)
        _outline(pixels, left, top, right, bottom, wide, np.array(colour, np.uint8))


def draw_mask(picture: Array, answer: Answer) -> Array:
    """Return a copy of uint8 pixels [height, width, 3] with every class but the first one tinted."""
    assert isinstance(answer, Mask)
    labels = answer.labels
    colours = _COLOURS[labels % len(_COLOURS)]
    tinted = (picture.astype(np.uint16) + colours) // 2
    shown = ((labels > 0) & (labels != Mask.IGNORED))[:, :, None]
    return np.where(shown, tinted, picture).astype(np.uint8)


def _outline(pixels: Array, left: int, top: int, right: int, bottom: int, wide: int, colour: Array) -> None:
    _fill(pixels, left, top, right + 1, top + wide, colour)
    _fill(pixels, left, bottom - wide + 1, right + 1, bottom + 1, colour)
    _fill(pixels, left, top, left + wide, bottom + 1, colour)
    _fill(pixels, right - wide + 1, top, right + 1, bottom + 1, colour)


def _fill(pixels: Array, left: int, top: int, right: int, bottom: int, colour: Array) -> None:
    pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour


def _with_names(pixels: Array, boxes: list[Any]) -> Array:
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        return pixels
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    for box in boxes:
        text = f"{box.name} {box.score:.2f}".encode("latin-1", "replace").decode("latin-1")  # what its own font has
        place = (max(box.left, 0), max(box.top - 12, 0))
        colour = tuple(int(part) for part in _COLOURS[box.number % len(_COLOURS)])
        pen.rectangle(pen.textbbox(place, text), fill=colour)
        pen.text(place, text, fill=(0, 0, 0))
    return np.asarray(image)
