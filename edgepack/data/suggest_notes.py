"""What exporters note in a model's file: the size of pictures, classes, points of things. Ultralytics' notes most."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from edgepack.data.recipes import MOST_PIXELS_A_SIDE

_MOST_POINTS = 1000
_MOST_NAMES = 1 << 16  # characters of the classes
_MOST_SIZE = 64  # characters of the size


def noted_size(notes: Mapping[str, str]) -> tuple[int, int]:
    """Return (height, width) that Ultralytics' exporter noted, ``[320, 320]`` or ``320``; zeros without them."""
    found = _literal(notes.get("imgsz", ""), _MOST_SIZE)
    sides = list(found) if isinstance(found, list | tuple) else [found, found]
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MOST_PIXELS_A_SIDE for side in sides):
        return 0, 0
    return sides[0], sides[1]


def noted_points(notes: Mapping[str, str], usual: int) -> tuple[int, int]:
    """Return how many points a thing has and values of each, as Ultralytics noted, else ``usual`` ones of 3."""
    found = _literal(notes.get("kpt_shape", ""), _MOST_SIZE)
    if (
        not isinstance(found, list | tuple)
        or len(found) != 2
        or not all(type(n) is int and 0 < n <= _MOST_POINTS for n in found)
    ):
        return usual, 3
    return found[0], found[1]


def noted_classes(notes: Mapping[str, str]) -> tuple[str, ...]:
    """Return the classes that Ultralytics' exporter noted, ``{0: 'cat', ...}``, in the order of their numbers."""
    found = _literal(notes.get("names", ""), _MOST_NAMES)
    names = [found.get(number) for number in range(len(found))] if isinstance(found, dict) else found
    if not isinstance(names, list) or not all(isinstance(n, str) and n.isprintable() for n in names):
        return ()
    return tuple(names)


def noted_labels(notes: Mapping[str, str], scores: tuple[int, ...] | None) -> tuple[str, ...]:
    """Return the names that a file of Paddle's models notes, one a line, where there is one for each of ``scores``."""
    names = tuple(notes.get("character", "")[:_MOST_NAMES].split("\n"))
    return names if scores == (len(names),) and all(name and name.isprintable() for name in names) else ()


def _literal(text: str, most: int) -> Any:
    """Return what an exporter noted as Python writes it; None for nothing, another text, or a longer one."""
    if not text or len(text) > most:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
