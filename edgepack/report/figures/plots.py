"""The plots of the page as SVG text: latency against quality, and how latencies are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgepack.report import units
from edgepack.report.entries import Entry, labels, pareto
from edgepack.report.entries.choice import Kind, latency_of, quality_kind
from edgepack.report.figures import svg
from edgepack.report.text.sentences import described

WIDTH, HEIGHT = 520, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 16, 14, 52
AREA = svg.Box(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)
_LABELS = svg.Box(_LEFT + 2, 2, WIDTH, HEIGHT - _BOTTOM)
_FONT = 12.5
_MOST_LABELS = 14
MOST_CURVES = 8
_MOST_ERROR_BARS = 80  # of more points they hide each other
SHAPES = {"fp32": "circle", "int8": "diamond", "fp16": "square", "bf16": "triangle"}
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "12 4", "2 6", "6 2 2 2")


@dataclass(frozen=True)
class Curve:
    """One line of a legend: the entry's number, its name, and the dash pattern of its line."""

    index: int
    name: str
    precision: str
    dash: str


@dataclass(frozen=True)
class Point:
    """A point in data units with its error bars' ends."""

    index: int
    x: float
    x_ends: tuple[float, float]
    y: float
    y_ends: tuple[float, float]


def quality_plot(entries: Sequence[Entry]) -> str | None:
    """Return the plot of latency against quality; None when there is nothing to compare."""
    kind = quality_kind(entries)
    points = [p for i, e in enumerate(entries) if (p := _point(i, e, kind)) is not None]
    if kind == "none" or len(points) < 2:
        return None
    scale = units.scale_for([p.x for p in points], units.TIMES)
    points = [_scaled(p, scale.factor) for p in points]
    ranked_by = entries[0].ranked_by
    return _scatter(entries, points, f"p{ranked_by:g} latency, {scale.unit}", _quality_title(entries, kind))


def energy_plot(entries: Sequence[Entry]) -> str | None:
    """Return the plot of energy against quality; None where too little was measured."""
    kind = quality_kind(entries)
    points = []
    for i, entry in enumerate(entries):
        found, energy = _quality(entry, kind), entry.result.energy_uj if entry.result else None
        if found is not None and energy is not None and energy > 0 and entry.status == "ok":
            points.append(Point(i, energy, (energy, energy), found[0], found[1]))
    if kind == "none" or len(points) < 2:
        return None
    scale = units.scale_for([p.x for p in points], units.ENERGIES)
    return _scatter(
        entries,
        [_scaled(p, scale.factor) for p in points],
        f"Energy per sample, {scale.unit}",
        _quality_title(entries, kind),
    )


def _point(index: int, entry: Entry, kind: Kind) -> Point | None:
    latency, quality = latency_of(entry), _quality(entry, kind)
    if latency is None or quality is None or entry.status == "failed":
        return None
    value, low, high = latency
    return Point(index, value, (low, high), quality[0], quality[1])


def _scaled(point: Point, factor: float) -> Point:
    low, high = point.x_ends
    return Point(point.index, point.x / factor, (low / factor, high / factor), point.y, point.y_ends)


def _quality(entry: Entry, kind: Kind) -> tuple[float, tuple[float, float]] | None:
    """Return the figure on the quality axis and the ends of its error bar."""
    if kind == "accuracy" and entry.accuracy is not None:
        found = entry.accuracy
        factor = 100.0 if units.is_fraction(found.metric) else 1.0
        low, high = found.fp32 - found.ci95[1], found.fp32 - found.ci95[0]
        if units.less_is_better(found.metric):
            low, high = found.fp32 + found.ci95[0], found.fp32 + found.ci95[1]
        if entry.precision == "fp32":
            low = high = found.value
        return factor * found.value, (factor * low, factor * high)
    if kind == "agreement":
        value = 1.0 if entry.agreement is None and entry.precision == "fp32" else entry.agreement
        if value is not None:
            low, high = entry.agreement_ci95 or (value, value)
            return 100 * value, (100 * low, 100 * high) if entry.precision != "fp32" else (100 * value, 100 * value)
    if kind == "sqnr" and entry.sqnr_db is not None:
        return entry.sqnr_db, (entry.sqnr_db, entry.sqnr_db)
    return None


def _quality_title(entries: Sequence[Entry], kind: Kind) -> str:
    if kind == "accuracy":
        found = next(e.accuracy for e in entries if e.accuracy)
        title = units.accuracy_heading(found)
        return f"{title}, %" if units.is_fraction(found.metric) else title
    return "Agreement with fp32, %" if kind == "agreement" else "SQNR to fp32, dB"


def _less_is_better(entries: Sequence[Entry], kind: Kind) -> bool:
    return kind == "accuracy" and any(e.accuracy and units.less_is_better(e.accuracy.metric) for e in entries)


def _scatter(entries: Sequence[Entry], points: Sequence[Point], x_title: str, y_title: str) -> str:
    crowded = len(points) > _MOST_ERROR_BARS
    if crowded:
        points = [Point(p.index, p.x, (p.x, p.x), p.y, (p.y, p.y)) for p in points]
    x = svg.make_axis([v for p in points for v in (p.x, *p.x_ends)], AREA.x1, AREA.x2, pad=0.12)
    y = svg.make_axis([v for p in points for v in (p.y, *p.y_ends)], AREA.y2, AREA.y1, log=False, pad=0.14)
    names = labels(entries)
    kind = quality_kind(entries)
    less = _less_is_better(entries, kind)
    arrow = "\u2190" if less else "\u2192"
    front = [points[i] for i in pareto([(p.x, -p.y if less else p.y) for p in points])]
    places = [(x.place(p.x), y.place(p.y)) for p in points]
    targets = {entries[p.index].target for p in points}
    short = [entries[p.index].target if len(targets) > 1 else entries[p.index].precision for p in points]
    spots = svg.place_labels(places, short, _LABELS, _FONT) if len(points) <= _MOST_LABELS else [None] * len(points)
    size = 4.0 if crowded else 5.5
    parts = [
        *frame(
            x,
            y,
            f"{x_title}  \u2190 faster" if "latency" in x_title else x_title,
            f"{y_title}  {arrow} better",
        ),
        svg.path([(x.place(p.x), y.place(p.y)) for p in front], "front", steps=True),
    ]
    for n, (point, (px, py), spot, name) in enumerate(zip(points, places, spots, short, strict=True)):
        entry = entries[point.index]
        # Of many points the script says what they are when they are come to: the table has it all.
        tip = f"{names[point.index]}: {described(entry, kind)}" if n == 0 or not crowded else ""
        label = f' role="img" aria-label="{escape(tip)}"' if tip else ""
        faded = " disturbed" if entry.disturbed else ""
        parts += [
            f'<g class="point {escape(entry.precision)}{faded}" data-entry="{point.index}" '
            f'data-at="{svg.number(px)} {svg.number(py)}" tabindex="{0 if n == 0 else -1}"{label}>',
            _error_bars(x, y, point),
            svg.marker(SHAPES.get(entry.precision, "circle"), px, py, size),
            svg.text(spot[0], spot[1], name, kind="name", anchor=spot[2]) if spot else "",
            "</g>",
        ]
    title = f"{y_title} against {x_title.lower()}"
    return figure(title, parts)


def _error_bars(x: svg.Axis, y: svg.Axis, point: Point) -> str:
    px, py = x.place(point.x), y.place(point.y)
    bars = []
    x1, x2 = (x.place(v) for v in point.x_ends)
    if x2 - x1 > 1:
        bars.append(svg.line(x1, py, x2, py, "bar"))
    y1, y2 = (y.place(v) for v in point.y_ends)
    if y1 - y2 > 1:
        bars.append(svg.line(px, y1, px, y2, "bar"))
    return "".join(bars)


def frame(x: svg.Axis, y: svg.Axis, x_title: str, y_title: str, *, rates: bool = False) -> list[str]:
    """Return grid lines, ticks and axis titles; with ``rates`` the ticks of y are written as 2M, 5G."""
    parts = []
    x_ticks, y_ticks = x.ticks(), y.ticks()
    for value in y_ticks:
        place = y.place(value)
        parts.append(svg.line(AREA.x1, place, AREA.x2, place, "grid"))
        parts.append(
            svg.text(
                AREA.x1 - 8,
                place + 4,
                units.short(value) if rates else svg.tick_text(value, y_ticks, log=y.log),
                kind="tick",
                anchor="end",
            )
        )
    for value in x_ticks:
        place = x.place(value)
        parts.append(svg.line(place, AREA.y2, place, AREA.y2 + 5, "axis x"))
        parts.append(
            svg.text(place, AREA.y2 + 19, svg.tick_text(value, x_ticks, log=x.log), kind="tick x", anchor="middle")
        )
    parts.append(svg.line(AREA.x1, AREA.y2, AREA.x2, AREA.y2, "axis"))
    middle = (AREA.x1 + AREA.x2) / 2, (AREA.y1 + AREA.y2) / 2
    parts.append(svg.text(middle[0], HEIGHT - 12, x_title, kind="title", anchor="middle"))
    parts.append(svg.text(14, middle[1], y_title, kind="title", anchor="middle", turn=True))
    return parts


def figure(title: str, parts: Sequence[str]) -> str:
    """Return the whole plot; ``title`` is what a screen reader says of it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(title)}">'
        + "".join(part for part in parts if part)
        + "</svg>"
    )


def distribution_plot(entries: Sequence[Entry]) -> tuple[str, tuple[Curve, ...], float] | None:
    """Return the cumulative distributions of the fastest entries' latencies, the legend, and the unit in ns."""
    measured = [
        (latency[0], i)
        for i, e in enumerate(entries)
        if e.result is not None and len(e.result.distribution_ns) > 1 and (latency := latency_of(e)) is not None
    ]
    chosen = [i for _, i in sorted(measured)[:MOST_CURVES]]
    if not chosen:
        return None
    distributions = {i: result.distribution_ns for i in chosen if (result := entries[i].result) is not None}
    scale = units.scale_for([d[len(d) // 2] for d in distributions.values()], units.TIMES)
    ends = [v / scale.factor for d in distributions.values() for v in (d[0], d[-1])]
    x = svg.make_axis([max(v, 1e-9) for v in ends], AREA.x1, AREA.x2, pad=0.03)
    y = svg.Axis(0, 100, AREA.y2, AREA.y1)
    names, parts, curves = labels(entries), frame(x, y, f"Latency, {scale.unit}", "Queries at most this slow, %"), []
    drawn: list[str] = []
    for i in chosen:
        values = distributions[i]
        dash = _DASHES[drawn.count(entries[i].precision) % len(_DASHES)]
        drawn.append(entries[i].precision)
        points = [(x.place(v / scale.factor), y.place(100 * k / (len(values) - 1))) for k, v in enumerate(values)]
        more = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<g class="curve {escape(entries[i].precision)}" data-entry="{i}"><title>{escape(names[i])}</title>'
            + svg.path(points, "line", more=more)
            + "</g>"
        )
        curves.append(Curve(i, names[i], entries[i].precision, dash))
    return figure("Distribution of latency", parts), tuple(curves), scale.factor


def swatch(precision: str, dash: str | None = None) -> str:
    """Return a sample of a marker or, with a dash pattern, of a line, for a legend."""
    if dash is None:
        shape = svg.marker(SHAPES.get(precision, "circle"), 8, 8)
        return f'<svg class="swatch point {escape(precision)}" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'
    more = f' stroke-dasharray="{dash}"' if dash else ""
    drawn = svg.path([(0, 8), (28, 8)], "line", more=more)
    return f'<svg class="swatch long curve {escape(precision)}" viewBox="0 0 28 16" aria-hidden="true">{drawn}</svg>'
