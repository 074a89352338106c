"""Bars of speed-up and size: shares of the longest, with the ends of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from edgepack.report import units
from edgepack.report.entries import Entry
from edgepack.report.entries.choice import latency_of

T = TypeVar("T")

MOST = 16


@dataclass(frozen=True)
class Bar:
    """Lengths in per cent of the axis; ``ends`` are those of the interval."""

    index: int
    name: str
    precision: str
    percent: float
    ends: tuple[float, float] | None
    text: str


@dataclass(frozen=True)
class Chart:
    """One kind of bars; ``base`` is where a line marks the base of comparison, in per cent; ``left_out`` counts."""

    key: str
    title: str
    caption: str
    bars: tuple[Bar, ...]
    base: float | None
    left_out: int


def charts(entries: Sequence[Entry], names: Sequence[str]) -> tuple[Chart, ...]:
    """Return the charts for which there is something to compare."""
    found = (_speedups(entries, names), _sizes(entries, names))
    return tuple(chart for chart in found if chart is not None and len(chart.bars) > 1)


def _speedups(entries: Sequence[Entry], names: Sequence[str]) -> Chart | None:
    chosen = [(i, e.speedup) for i, e in enumerate(entries) if e.speedup is not None]
    if all(entries[i].precision == "fp32" for i, _ in chosen):
        return None
    shown = _shown(entries, chosen)
    ends = {i: entries[i].speedup_ci95 for i, _ in shown}
    longest = max(max(value, (ends[i] or (0, value))[1]) for i, value in shown)
    bars = tuple(
        Bar(i, names[i], entries[i].precision, 100 * value / longest, _scaled(ends[i], longest), units.ratio(value))
        for i, value in shown
    )
    caption = "How many times as fast as the fp32 bundle of the same target; the line is fp32."
    return Chart("speedup", "Speed-up over fp32", caption, bars, 100 / longest, len(chosen) - len(shown))


def _sizes(entries: Sequence[Entry], names: Sequence[str]) -> Chart | None:
    chosen = [(i, e.ranked_bytes) for i, e in enumerate(entries) if e.ranked_bytes]
    if not chosen:
        return None
    shown = _shown(entries, chosen)
    longest = max(size for _, size in shown)
    bars = tuple(
        Bar(i, names[i], entries[i].precision, 100 * size / longest, None, units.quantity(size, units.SIZES))
        for i, size in shown
    )
    alone = any(e.model_bytes is not None for e in entries)
    caption = "The engines' own files, without golden vectors." if alone else "The whole file, golden vectors included."
    title = "Size of the model" if alone else "Size of the bundle"
    return Chart("size", title, caption, bars, None, len(chosen) - len(shown))


def _shown(entries: Sequence[Entry], chosen: list[tuple[int, T]]) -> list[tuple[int, T]]:
    """Return all, or of too many the fastest."""
    if len(chosen) <= MOST:
        return chosen
    latencies = {i: latency_of(entries[i]) for i, _ in chosen}
    order = sorted(chosen, key=lambda item: (latencies[item[0]] is None, latencies[item[0]] or (0, 0, 0)))
    return order[:MOST]


def _scaled(ends: tuple[float, float] | None, longest: float) -> tuple[float, float] | None:
    return (100 * ends[0] / longest, 100 * ends[1] / longest) if ends else None
