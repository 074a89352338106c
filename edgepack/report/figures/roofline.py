"""Where the time of one measured bundle goes: its slowest layers as bars, and all of them below the host's roofline.

The roofline model is of Williams, Waterman and Patterson, "Roofline: an insightful visual performance model"
(CACM 52, 2009): a layer that does ``x`` operations on each byte that it moves can do at most the lower of the peak and
``x`` times the bandwidth, in operations a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from edgepack.report import units
from edgepack.report.entries import Entry
from edgepack.report.entries.choice import latency_of
from edgepack.report.figures import svg
from edgepack.report.figures.plots import AREA, figure, frame
from edgepack.specs.result import LayerLimit, Limit, Peaks

MOST_PANELS = 12  # entries whose layers are in the page, the fastest: a report of one bundle alone always has its own
_MOST_POINTS = 60
_MOST_ROWS = 300  # of the table of one entry's other layers
_FONT = 12.0
_RATES = (units.Scale("op/s", 1), units.Scale("kop/s", 1e3), units.Scale("Mop/s", 1e6), units.Scale("Gop/s", 1e9),
          units.Scale("Top/s", 1e12))  # fmt: skip
_SPEEDS = (units.Scale("B/s", 1), units.Scale("kB/s", 1e3), units.Scale("MB/s", 1e6), units.Scale("GB/s", 1e9),
           units.Scale("TB/s", 1e12))  # fmt: skip
BOUNDS = {
    "compute": ("circle", "near the peak of arithmetic"),
    "memory": ("square", "near the bandwidth"),
    "overhead": ("triangle", "neither: overhead"),
    "precision": ("diamond", "not in the precision asked for"),
}


@dataclass(frozen=True)
class LayerBar:
    """One layer: lengths in per cent of the longest bar; ``floor`` is the part that the host needs at least."""

    name: str
    operator: str
    bound: str
    percent: float
    floor: float
    text: str
    reason: str


@dataclass(frozen=True)
class Panel:
    """The layers of one entry; ``others`` says what those without a bar took, which ``rest`` lists in a table.

    A row of it is name, operator, time, share of the time in per cent, and what bounds it.
    """

    index: int
    name: str
    summary: str
    roof: str
    bars: tuple[LayerBar, ...]
    others: str
    rest: tuple[tuple[str, str, str, str, str], ...]
    plot: str | None
    bounds: tuple[str, ...]


def panels(entries: Sequence[Entry], names: Sequence[str]) -> tuple[Panel, ...]:
    """Return the panels of the fastest entries whose layers were measured, in the order of the entries."""
    known = [(latency_of(e), i) for i, e in enumerate(entries) if e.result and e.result.limit and e.result.limit.layers]
    fastest = sorted(known, key=lambda item: (item[0] is None, item[0] or (0, 0, 0), item[1]))[:MOST_PANELS]
    found = []
    for i in sorted(i for _, i in fastest):
        result = entries[i].result
        assert result is not None
        assert result.limit is not None
        found.append(_panel(i, names[i], result.limit))
    return tuple(found)


def left_out(entries: Sequence[Entry], shown: Sequence[Panel]) -> int:
    """Return of how many entries the layers are known and not in the page."""
    return sum(1 for e in entries if e.result and e.result.limit and e.result.limit.layers) - len(shown)


def _panel(index: int, name: str, limit: Limit) -> Panel:
    by_name = {layer.name: layer for layer in limit.layers}
    shown = [by_name[n] for n in limit.costliest if n in by_name] or _slowest(limit.layers)
    longest = max((layer.time_ns for layer in shown), default=1) or 1
    scale = units.scale_for([layer.time_ns for layer in shown], units.TIMES)
    bars = tuple(
        LayerBar(
            layer.name,
            layer.operator,
            layer.bound,
            100 * layer.time_ns / longest,
            100 * min(layer.floor_ns, layer.time_ns) / longest,
            f"{scale.show(layer.time_ns)} {scale.unit}",
            layer.reason,
        )
        for layer in shown
    )
    rest = sorted((layer for layer in limit.layers if layer not in shown), key=lambda layer: -layer.time_ns)
    plot = _plot(limit)
    used = {layer.bound for layer in limit.layers}
    return Panel(
        index=index,
        name=name,
        summary=_summary(limit),
        roof=peaks_text(limit.roof),
        bars=bars,
        others=_others(rest),
        rest=_rows(rest[:_MOST_ROWS], sum(layer.time_ns for layer in limit.layers)),
        plot=plot,
        bounds=tuple(b for b in BOUNDS if b in used),
    )


def _others(rest: Sequence[LayerLimit]) -> str:
    if not rest:
        return ""
    taken = units.quantity(sum(layer.time_ns for layer in rest), units.TIMES)
    layers = "1 more layer" if len(rest) == 1 else f"{len(rest)} more layers"
    return f"{layers} took {taken} together" + (f"; the slowest {_MOST_ROWS}" if len(rest) > _MOST_ROWS else "")


def _rows(rest: Sequence[LayerLimit], total_ns: int) -> tuple[tuple[str, str, str, str, str], ...]:
    return tuple(
        (
            layer.name,
            layer.operator,
            units.quantity(layer.time_ns, units.TIMES),
            units.percent(layer.time_ns / max(total_ns, 1)),
            BOUNDS[layer.bound][1],
        )
        for layer in rest
    )


def _slowest(layers: Sequence[LayerLimit]) -> list[LayerLimit]:
    return sorted(layers, key=lambda layer: -layer.time_ns)[:10]


def _summary(limit: Limit) -> str:
    query = "A query" if limit.samples == 1 else f"A query of {limit.samples} samples"
    return (
        f"{query} needs at least {units.quantity(limit.floor_ns, units.TIMES)} on this host; "
        f"{units.percent(limit.fraction)} % of that speed was reached."
    )


def peaks_text(roof: Peaks) -> str:
    """Return what a host was measured to do at most, in words."""
    peaks = ", ".join(f"{p.precision} {units.quantity(p.ops_per_s, _RATES)} ({p.kernel})" for p in roof.peaks)
    moved = ", ".join(
        f"{units.quantity(b.bytes_per_s, _SPEEDS)} of {units.quantity(b.working_set_bytes, units.SIZES)}"
        for b in roof.bandwidths
    )
    return f"Measured on the host with {units.threads(roof.threads)}: {peaks}; {moved}."


# --- the plot ---------------------------------------------------------------------------------------------------------


def _plot(limit: Limit) -> str | None:
    """Return the roofline plot; None where too few layers have counts of operations and bytes."""
    points = [p for layer in _heaviest(limit.layers) if (p := _point(layer)) is not None]
    peaks, slopes = limit.roof.peaks, _slopes(limit.roof)
    if len(points) < 2 or not peaks or not slopes:
        return None
    whole = limit.ops / max(limit.moved_bytes, 1), limit.ops * limit.fraction * 1e9 / max(limit.floor_ns, 1)
    rates = [max(p.ops_per_s for p in peaks), min(v for v, _, _ in points) * min(slopes.values())]
    knees = [peak.ops_per_s / slope for peak in peaks for slope in slopes.values()]
    ahead = [v for v, _, _ in points] + [whole[0]] * (whole[0] > 0)
    up = [v for _, v, _ in points] + [whole[1]] * (whole[1] > 0)
    x = svg.make_axis([*ahead, *knees], AREA.x1, AREA.x2, log=True, pad=0.06)
    y = svg.make_axis([*up, *rates], AREA.y2, AREA.y1, log=True, pad=0.08)
    return figure(
        "Operations a second against operations a byte",
        [
            *frame(x, y, "Operations on each byte moved", "Operations a second", rates=True),
            *_peaks(limit.roof, slopes, x, y),
            _whole(limit, x.place(whole[0]), y.place(whole[1]), whole[1]),
            *(_marker(layer, x.place(px), y.place(py)) for px, py, layer in points),
        ],
    )


def _whole(limit: Limit, px: float, py: float, rate: float) -> str:
    tip = f"The whole query: {units.quantity(rate, _RATES)}, {units.percent(limit.fraction)} % of the limit"
    mark = f'<circle class="whole" cx="{svg.number(px)}" cy="{svg.number(py)}" r="8"/>'
    return f'<g class="point" tabindex="0" role="img" aria-label="{escape(tip)}">{mark}</g>'


def _heaviest(layers: Sequence[LayerLimit]) -> list[LayerLimit]:
    return sorted(layers, key=lambda layer: -layer.time_ns)[:_MOST_POINTS]


def _point(layer: LayerLimit) -> tuple[float, float, LayerLimit] | None:
    if not layer.ops or not layer.moved_bytes or layer.time_ns <= 0:
        return None
    return layer.ops / layer.moved_bytes, layer.ops * 1e9 / layer.time_ns, layer


def _slopes(roof: Peaks) -> dict[str, int]:
    """Return the bandwidths of the smallest and the largest working set, by what to call them."""
    ordered = sorted((b for b in roof.bandwidths if b.bytes_per_s > 0), key=lambda b: b.working_set_bytes)
    if not ordered:
        return {}
    found = {"memory": ordered[-1].bytes_per_s}
    if ordered[0].bytes_per_s > 1.2 * ordered[-1].bytes_per_s:
        found["caches"] = ordered[0].bytes_per_s
    return found


def _peaks(roof: Peaks, slopes: dict[str, int], x: svg.Axis, y: svg.Axis) -> Iterator[str]:
    steepest = max(slopes.values())
    used: list[svg.Box] = []
    for peak in sorted(roof.peaks, key=lambda p: -p.ops_per_s):
        start = max(peak.ops_per_s / steepest, x.low)
        place = y.place(peak.ops_per_s)
        yield svg.line(x.place(start), place, AREA.x2, place, f"roof {escape(peak.precision)}")
        text = f"{peak.precision} {units.quantity(peak.ops_per_s, _RATES)}"
        box = svg.Box(AREA.x2 - svg.text_width(text, _FONT), place - 16, AREA.x2, place - 3)
        if not any(box.overlaps(other) for other in used):
            used.append(box)
            yield svg.text(AREA.x2, place - 5, text, kind="name", anchor="end")
    highest = max(p.ops_per_s for p in roof.peaks)
    for name, slope in slopes.items():
        low = max(x.low, y.low / slope)
        high = min(x.high, highest / slope)
        if high <= low:
            continue
        ends = x.place(low), y.place(low * slope), x.place(high), y.place(high * slope)
        yield svg.line(*ends, "roof slope")
        yield _along(ends, f"{name} {units.quantity(slope, _SPEEDS)}", above=name == "caches")


def _along(ends: tuple[float, float, float, float], text: str, *, above: bool) -> str:
    """Return a text above the beginning of a line, or below its end; nothing where the line is shorter than it."""
    x1, y1, x2, y2 = ends
    angle = math.atan2(y2 - y1, x2 - x1)
    length = math.hypot(x2 - x1, y2 - y1)
    if length < svg.text_width(text, _FONT) + 20:
        return ""
    side, along = (-6, 12) if above else (15, length - 12)
    x = x1 + along * math.cos(angle) - side * math.sin(angle)
    y = y1 + along * math.sin(angle) + side * math.cos(angle)
    at = svg.number(x), svg.number(y)
    turn = f"rotate({math.degrees(angle):.1f} {at[0]} {at[1]})"
    anchor = "start" if above else "end"
    place = f'x="{at[0]}" y="{at[1]}" text-anchor="{anchor}"'
    return f'<text class="name" {place} transform="{turn}">{escape(text)}</text>'


def _marker(layer: LayerLimit, px: float, py: float) -> str:
    share = f", {units.percent(layer.fraction, 0)} % of the roofline" if layer.fraction is not None else ""
    tip = f"{layer.name} ({layer.operator}, {layer.executed}): {units.quantity(layer.time_ns, units.TIMES)}{share}"
    return (
        f'<g class="point bound-{layer.bound}" tabindex="-1" role="img" '
        f'aria-label="{escape(tip)}; {escape(layer.reason)}">{svg.marker(BOUNDS[layer.bound][0], px, py, 4.5)}</g>'
    )


def swatch(bound: str) -> str:
    """Return a sample of the marker of a bound, for a legend."""
    shape = svg.marker(BOUNDS[bound][0], 8, 8) if bound in BOUNDS else '<circle class="whole" cx="8" cy="8" r="6"/>'
    return f'<svg class="swatch point bound-{bound}" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'
