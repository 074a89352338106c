"""Axes, ticks and shapes of small inline SVG plots; a plot is text, and its colours are the page's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LOG_SPAN = 6.0  # values that span more than this are drawn on a logarithmic axis
_CHARACTER = 0.56  # width of an average character in units of the font's size


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels from ``start`` to ``end``; ``low`` and ``high`` are the values there."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.log:
            share = math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values inside the axis: three to seven of them."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def make_axis(values: Sequence[float], start: float, end: float, *, log: bool | None = None, pad: float = 0.06) -> Axis:
    """Return an axis that holds the values with some room; logarithmic when they are positive and span widely."""
    low, high = min(values), max(values)
    wide = low > 0 and high / low > _LOG_SPAN
    if wide if log is None else (log and low > 0):
        factor = (high / low) ** pad if high > low else 1.5
        return Axis(low / max(factor, 1.02), high * max(factor, 1.02), start, end, log=True)
    room = (high - low) * pad if high > low else max(abs(high) * 0.1, 0.5)
    return Axis(low - room, high + room, start, end)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**p for p in powers for m in mantissas if low <= m * 10.0**p <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 8)]
    return _linear_ticks(low, high)


def tick_text(value: float, ticks: Sequence[float], *, log: bool = False) -> str:
    """Return a tick's value, with as many decimals as tell the ticks of a linear axis apart."""
    if log or max(map(abs, ticks), default=1) >= 1e6 or 0 < min(map(abs, ticks), default=1) < 1e-4:
        return f"{value:g}".replace("-", "\u2212")
    steps = [abs(b - a) for a, b in itertools.pairwise(ticks)]
    finest = min(steps, default=abs(value) or 1.0)
    exact = (d for d in range(7) if all(abs(round(t, d) - t) < finest / 1000 for t in ticks))
    return f"{value:.{next(exact, 6)}f}".replace("-", "\u2212")


def number(value: float) -> str:
    """Return a coordinate with one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is in pixels."""
    return len(text) * size * _CHARACTER


def text(x: float, y: float, content: str, *, kind: str = "", anchor: str = "start", turn: bool = False) -> str:
    """Return a text element; ``kind`` is its CSS class."""
    rotation = f' transform="rotate(-90 {number(x)} {number(y)})"' if turn else ""
    name = f' class="{kind}"' if kind else ""
    where = f'x="{number(x)}" y="{number(y)}"'
    return f'<text {where} text-anchor="{anchor}"{name}{rotation}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line element."""
    return f'<path class="{kind}" d="M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}"/>'


def path(points: Sequence[tuple[float, float]], kind: str, *, steps: bool = False, more: str = "") -> str:
    """Return a line through points in pixels; with ``steps`` it runs level and then rises at each."""
    if not points:
        return ""
    parts = [f"M{number(points[0][0])} {number(points[0][1])}"]
    for x, y in points[1:]:
        parts.append(f"H{number(x)}V{number(y)}" if steps else f"L{number(x)} {number(y)}")
    return f'<path class="{kind}" d="{"".join(parts)}"{more}/>'


def marker(shape: str, x: float, y: float, size: float = 5.5) -> str:
    """Return a marker: circle, diamond, square or triangle, each of about the same area."""
    if shape == "circle":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(size)}"/>'
    corners = {
        "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        "square": ((-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)),
        "triangle": ((0, -1.25), (1.2, 0.9), (-1.2, 0.9)),
    }[shape]
    points = " ".join(f"{number(x + size * dx)},{number(y + size * dy)}" for dx, dy in corners)
    return f'<polygon points="{points}"/>'


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float

    def overlaps(self, other: Box) -> bool:
        """Say whether two rectangles share more than an edge."""
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2

    def inside(self, other: Box) -> bool:
        """Say whether this rectangle lies within another."""
        return self.x1 >= other.x1 and self.x2 <= other.x2 and self.y1 >= other.y1 and self.y2 <= other.y2


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], area: Box, size: float
) -> list[tuple[float, float, str] | None]:
    """Return for each point (x, y, anchor) of its label, where none covers a point or another; None where none fits."""
    taken = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    found: list[tuple[float, float, str] | None] = [None] * len(points)
    # From right to left, because at the right edge there is the least choice.
    for i in sorted(range(len(points)), key=lambda i: -points[i][0]):
        (x, y), name = points[i], names[i]
        width = text_width(name, size)
        for dx, dy, anchor in ((11, 4, "start"), (-11, 4, "end"), (0, -13, "middle"), (0, 21, "middle"),
                               (9, -11, "start"), (9, 19, "start"), (-9, -11, "end"), (-9, 19, "end")):  # fmt: skip
            left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = Box(left, y + dy - size * 0.8, left + width, y + dy + size * 0.25)
            if box.inside(area) and not any(box.overlaps(other) for other in taken):
                found[i] = (x + dx, y + dy, anchor)
                taken.append(box)
                break
    return found
