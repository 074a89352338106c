"""Where a picture goes in the model's input: what a recipe's resizing, cropping and padding come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.specs.task import Frame

if TYPE_CHECKING:
    from edgepack.specs.data import Preprocessing


@dataclass(frozen=True)
class Geometry:
    """A picture is resized to ``size`` (height, width); then ``size`` is cut or laid into ``canvas``.

    ``top`` and ``left`` are where the resized picture begins in the canvas: negative where it is cut.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    top: int
    left: int


def geometry_of(height: int, width: int, made: Preprocessing) -> Geometry:
    """Return where a picture of ``height`` by ``width`` pixels goes."""
    if made.letterbox and made.resize is not None:
        return _letterbox(height, width, made, made.resize)
    size = _resized(height, width, made)
    if made.crop is None:
        return Geometry(size, size, 0, 0)
    # Rounded as torchvision's CenterCrop.
    top, left = round((size[0] - made.crop[0]) / 2.0), round((size[1] - made.crop[1]) / 2.0)
    return Geometry(size, made.crop, -top, -left)


def _resized(height: int, width: int, made: Preprocessing) -> tuple[int, int]:
    """Return (height, width); ``resize_short`` truncates the longer side as torchvision's Resize."""
    if made.resize is not None:
        return made.resize
    if made.resize_short is None:
        return height, width
    short = made.resize_short
    long = int(short * max(width, height) / min(width, height))
    return (long, short) if width <= height else (short, long)


def _letterbox(height: int, width: int, made: Preprocessing, within: tuple[int, int]) -> Geometry:
    """Scale by the smaller ratio and pad the rest, as Ultralytics' LetterBox and YOLOX's preproc do."""
    ratio = within[0] / height if made.fixed_height else min(within[0] / height, within[1] / width)
    if not made.scale_up:
        ratio = min(ratio, 1.0)
    whole = round if made.rounding == "nearest" else int
    size = (max(whole(height * ratio), 1), max(whole(width * ratio), 1))
    if made.fixed_height:
        size = (within[0], min(size[1], within[1]))
    canvas = within
    if made.stride is not None:
        wide = max(size[1], made.least_width or 0)
        canvas = (multiple(size[0], made.stride), multiple(wide, made.stride))
    if made.anchor == "top-left":
        return Geometry(size, canvas, 0, 0)
    # A half pixel goes to the right and below: round(d - 0.1) in Ultralytics' code.
    return Geometry(size, canvas, round((canvas[0] - size[0]) / 2 - 0.1), round((canvas[1] - size[1]) / 2 - 0.1))


def multiple(side: int, stride: int) -> int:
    """Return the least multiple of ``stride`` that is not below ``side``."""
    return -(-side // stride) * stride


def frame_of(height: int, width: int, made: Preprocessing) -> Frame:
    """Return what answers need to be given in pixels of a picture of ``height`` by ``width``."""
    found = geometry_of(height, width, made)
    return Frame(
        height=height,
        width=width,
        input_height=found.canvas[0],
        input_width=found.canvas[1],
        scale_x=found.size[1] / width,
        scale_y=found.size[0] / height,
        offset_x=float(found.left),
        offset_y=float(found.top),
    )
