"""The report as one self-contained HTML page: no request leaves it, and names in it are text, never markup."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack import __version__
from edgepack.files import write_text
from edgepack.report import bars, plots, remarks, trials, units
from edgepack.report.baseline import WORDS, Both, compare_with_baseline
from edgepack.report.choice import Choice, Kind, Limits, choose, default_limits, latency_of, quality_kind, quality_of
from edgepack.report.entries import Entry, Group, labels, make_groups, short_cpu
from edgepack.report.merging import bundles_apart, kept_apart
from edgepack.report.sentences import among, caveat, nothing_found
from edgepack.report.tables import MARKS, Table, make_table
from edgepack.specs import BuildRow, Host, Result

_FOLDER = Path(__file__).resolve().parent
_MANY = 30  # rows, above which those outside the limits are hidden and not dimmed
_SYMBOLS = {"measured": "✓", "disturbed": "!", "unmeasured": "○", "failed": "✕", "gate_missed": "▽"}

_HEADLINES = (
    ("p90", "p90 latency"),
    ("speedup", "Speed-up over fp32"),
    ("accuracy", ""),
    ("drop", "Drop"),
    ("agreement", "Agreement with fp32"),
    ("size", ""),
    ("memory", "Peak memory"),
)


@dataclass(frozen=True)
class Field:
    """A limit that the reader may set; ``factor`` turns what is typed into the unit of the page's data."""

    key: str
    title: str
    unit: str
    factor: float
    value: str
    least: bool
    hint: str


@dataclass(frozen=True)
class Section:
    """Everything that the page shows of one model."""

    group: Group
    table: Table
    names: tuple[str, ...]
    choice: Choice
    nothing: str
    among: str
    caveat: str
    stats: tuple[list[tuple[str, str, str]], ...]
    fields: tuple[Field, ...]
    data: str
    quality_plot: str | None
    energy_plot: str | None
    hide_others: bool
    distribution: tuple[str, tuple[plots.Curve, ...]] | None
    precisions: tuple[str, ...]
    bars: tuple[bars.Chart, ...]
    failures: tuple[remarks.Remark, ...]
    disturbances: tuple[remarks.Remark, ...]
    missing: tuple[remarks.Remark, ...]
    circumstances: tuple[remarks.Remark, ...]
    trials: tuple[trials.Tried, ...]
    bundles: tuple[str, ...]
    provenances: tuple[remarks.Provenance, ...]


def write_report(
    results: tuple[Result, ...], rows: tuple[BuildRow, ...], out: Path, baseline: Both | None = None
) -> None:
    """Write the page to ``out``, whole or not at all; the same results give the same bytes. Raises ``StorageError``.

    With ``baseline``, older results and rows, the page shows what changed since.
    """
    write_text(out, to_html(results, rows, baseline))


def to_html(results: tuple[Result, ...], rows: tuple[BuildRow, ...], baseline: Both | None = None) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    hosts = _hosts(results)
    groups = make_groups(results, rows)
    sections = tuple(_section(group, hosts) for group in groups)
    return environment.get_template("page.html.jinja").render(
        sections=sections,
        apart=kept_apart(groups),
        heading=_heading(sections),
        subtitle=_subtitle(sections, hosts),
        hosts=[(_host_name(i), remarks.host_text(host), " ".join(host.isa)) for i, host in enumerate(hosts)],
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        svg=Markup,
        swatch=lambda *arguments: Markup(plots.swatch(*arguments)),
        changes=compare_with_baseline((results, rows), baseline) if baseline is not None else None,
        words=WORDS,
        trial_headings=trials.HEADINGS,
        marks=MARKS,
        symbols=_SYMBOLS,
        version=__version__,
    )


def _heading(sections: Sequence[Section]) -> str:
    if len(sections) == 1:
        return sections[0].group.title
    return f"{len(sections)} models" if sections else "Nothing to report"


def _subtitle(sections: Sequence[Section], hosts: Sequence[Host]) -> str:
    entries = [e for s in sections for e in s.group.entries]
    targets = len({e.target for e in entries})
    parts = [_plural(len(entries), "row"), _plural(targets, "target")]
    if len(hosts) == 1:
        parts.append(f"measured on {short_cpu(hosts[0].cpu)}, {_plural(hosts[0].cores, 'core')}")
    elif hosts:
        parts.append(f"measured on {len(hosts)} hosts")
    days = sorted({e.result.measured_at[:10] for e in entries if e.result and e.result.measured_at})
    if days:
        parts.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    return " · ".join(parts)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _hosts(results: Sequence[Result]) -> tuple[Host, ...]:
    return tuple(dict.fromkeys(result.host for result in results))


def _host_name(index: int) -> str:
    return f"Host {index + 1}"


def _section(group: Group, hosts: tuple[Host, ...]) -> Section:
    entries = group.entries
    names, table, limits = labels(entries), make_table(group), default_limits(entries)
    choice = choose(entries, limits)
    stats = tuple(figures(table, i) for i in range(len(entries)))
    fields = tuple(_fields(entries, limits))
    places = {host: _host_name(i) for i, host in enumerate(hosts)}
    return Section(
        group=group,
        table=table,
        names=names,
        choice=choice,
        nothing=nothing_found(entries),
        among=among(choice.candidates),
        caveat=caveat(entries),
        stats=stats,
        fields=fields,
        data=_data(group, names, stats, fields),
        quality_plot=plots.quality_plot(entries),
        energy_plot=plots.energy_plot(entries),
        hide_others=len(entries) > _MANY,
        distribution=plots.distribution_plot(entries),
        precisions=tuple(dict.fromkeys(e.precision for e in entries if latency_of(e))),
        bars=bars.charts(entries, names),
        failures=remarks.failures(entries),
        disturbances=remarks.disturbances(entries),
        missing=remarks.not_measured(entries),
        circumstances=remarks.circumstances(entries),
        trials=trials.tried(entries),
        bundles=bundles_apart(group),
        provenances=remarks.provenances(entries, places),
    )


# --- limits and the data that the page's script filters by ------------------------------------------------------------


def _fields(entries: Sequence[Entry], limits: Limits) -> list[Field]:
    """Return the limits that can be set: those whose quantity was measured for some entry."""
    latencies = [found[0] for e in entries if (found := latency_of(e))]
    sizes = [e.size_bytes for e in entries if e.size_bytes]
    memory = [e.result.memory_peak_bytes for e in entries if e.result and e.result.memory_peak_bytes]
    energy = [e.result.energy_uj for e in entries if e.result and e.result.energy_uj]
    fields = [
        _field("latency", "Latency, p90", latencies, units.TIMES),
        _quality_field(entries, limits),
        _field("size", "Size", sizes, units.SIZES),
        _field("memory", "Peak memory", memory, units.SIZES),
        _field("energy", "Energy", energy, units.ENERGIES),
    ]
    return [f for f in fields if f is not None]


def _field(key: str, title: str, values: Sequence[int], scales: tuple[units.Scale, ...]) -> Field | None:
    if not values:
        return None
    scale = units.scale_for(values, scales)
    low, high = scale.show(min(values)), scale.show(max(values))
    return Field(key, title, scale.unit, scale.factor, "", least=False, hint=low if low == high else f"{low}–{high}")  # noqa: RUF001


def _quality_field(entries: Sequence[Entry], limits: Limits) -> Field | None:
    kind = quality_kind(entries)
    if kind == "none":
        return None
    assert limits.quality is not None
    if kind == "sqnr":
        return Field("quality", "SQNR to fp32", "dB", 1.0, f"{limits.quality:g}", least=True, hint="")
    value = f"{100 * limits.quality:g}"
    if kind == "agreement":
        return Field("quality", "Agreement with fp32", "%", 0.01, value, least=True, hint="")
    metric = next(e.accuracy.metric for e in entries if e.accuracy)
    if not units.is_fraction(metric):
        return Field("quality", "Drop", "", 1.0, f"{limits.quality:g}", least=False, hint="")
    return Field("quality", "Accuracy drop", "points", 0.01, value, least=False, hint="")


def _data(
    group: Group, names: Sequence[str], stats: Sequence[list[tuple[str, str, str]]], fields: Sequence[Field]
) -> str:
    """Return what the script needs, as JSON that cannot end the element it stands in."""
    kind = quality_kind(group.entries)
    value = {
        "entries": [_datum(e, name, kind, s) for e, name, s in zip(group.entries, names, stats, strict=True)],
        "least": [f.key for f in fields if f.least],
        "nothing": nothing_found(group.entries),
        "caveat": caveat(group.entries),
    }
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _datum(entry: Entry, name: str, kind: Kind, stats: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    latency, result = latency_of(entry), entry.result
    return {
        "name": name,
        "latency": latency[0] if latency else None,
        "low": latency[1] if latency else None,
        "high": latency[2] if latency else None,
        "quality": quality_of(entry, kind),
        "size": entry.size_bytes,
        "memory": result.memory_peak_bytes if result else None,
        "energy": result.energy_uj if result else None,
        "failed": entry.status != "ok",
        "good": entry.status == "ok" and latency is not None,
        "disturbed": entry.disturbed,
        "stats": stats if latency else [],
    }


def figures(table: Table, index: int) -> list[tuple[str, str, str]]:
    """Return the headline figures of an entry: (title, value with unit, detail)."""
    found = []
    for key, title in _HEADLINES:
        column = next((c for c in table.columns if c.key == key), None)
        if column is None or column.cells[index].order is None:
            continue
        cell = column.cells[index]
        unit = {"speedup": "", "agreement": " %"}.get(key, f" {column.unit}")
        found.append((title or column.title, f"{cell.text}{unit}".strip(), cell.detail))
    return found[:5]
