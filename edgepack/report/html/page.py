"""The report as one self-contained HTML page: no request leaves it, and names in it are text, never markup.

The plots are SVG of our own (``svg.py``, ``plots.py``) and not Vega-Lite's. Its three scripts are about 0.8 MB, which
would be most of the page, and they make functions of text, which the page's policy (one script, named by its hash)
forbids. Ours are there without any script, in a mail's preview and on paper, are the same bytes for the same results,
and their points, colours and keys are the page's own. What must change with the limits, ``script/`` draws again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack import __version__
from edgepack.base.files import write_text
from edgepack.base.text import printable
from edgepack.report import units
from edgepack.report.entries import Group, labels, make_groups, quality, short_cpu
from edgepack.report.entries.baseline import WORDS, Both, compare_with_baseline
from edgepack.report.entries.choice import Choice, choose, default_limits, keeps, latency_of, quality_kind
from edgepack.report.entries.merging import bundles_apart, kept_apart
from edgepack.report.entries.standing import parted
from edgepack.report.figures import bars, plots, roofline
from edgepack.report.html.compiled import environment
from edgepack.report.html.filters import (
    Field,
    Offered,
    Preference,
    make_data,
    make_fields,
    offered_presets,
    preferences,
)
from edgepack.report.text import changes, provenance, remarks, trials
from edgepack.report.text.devices import Device, devices, how_to_measure, standing
from edgepack.report.text.model import model_text
from edgepack.report.text.sentences import among, caveat, excluded, listed, nothing_found
from edgepack.report.text.table import MARKS, Table, column, make_table
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result
from edgepack.specs.target import Host

_FOLDER = Path(__file__).resolve().parent
_OPTIONS = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
_MANY = 30  # rows, above which those outside the limits are hidden and not dimmed
_SYMBOLS = {
    "measured": "✓", "disturbed": "!", "imported": "⇥", "unmeasured": "○", "failed": "✕", "gate_missed": "▽",
    "poor": "▿", "skipped": "⊘",
}  # fmt: skip

_SCRIPT = ("limits", "answer", "charts", "table", "keys", "start")
_MOST_REMARKS = 12
_MOST_NAMES = 10
_MOST_DEVICES = 6  # of which a sentence stands on the first screen
_SHORT_NAME = 18  # letters of a target that stand on one line of the table
_MOST_HEADLINES = 6
# The figures beside the recommendation, the most asked for first, with what they are called there.
_HEADLINES = {
    "p90": "p90 latency",
    "p50": "p50 latency",
    "speedup": "Speed-up over fp32",
    "accuracy": "",
    "drop": "Drop",
    "agreement": "Agreement with fp32",
    "energy": "Energy a sample",
    "first": "First answer",
    "size": "",
    "limit": "Of the host\u2019s limit",
    "memory": "",
}


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
    ties: str
    excluded: str
    standing: str
    facts: str
    how_to_measure: str
    devices: tuple[Device, ...]
    presets: tuple[Offered, ...]
    undisturbed: bool
    kept: int
    built: int
    short: bool
    quality_key: str
    latency_key: str
    headline_titles: dict[str, str]
    stats: tuple[tuple[str, str, str], ...]
    fields: tuple[Field, ...]
    preferences: tuple[Preference, ...]
    words: tuple[str, ...]
    data: str
    quality_plot: str | None
    energy_plot: str | None
    hide_others: bool
    distribution: tuple[str, tuple[plots.Curve, ...], float] | None
    precisions: tuple[str, ...]
    bars: tuple[bars.Chart, ...]
    stack_bars: bool
    panels: tuple[roofline.Panel, ...]
    panels_left_out: int
    first_panel: int
    quality: quality.ByEngine | None
    failures: tuple[remarks.Remark, ...]
    disturbances: tuple[remarks.Remark, ...]
    missing: tuple[remarks.Remark, ...]
    circumstances: tuple[remarks.Remark, ...]
    trials: tuple[trials.Tried, ...]
    bundles: tuple[str, ...]
    changed: tuple[changes.ChangedEntry, ...]

    def figure(self, key: str) -> tuple[str, str]:
        """Return a figure of the recommended row, with its unit, and its detail."""
        found = column(self.table, key)
        if self.choice.best is None or found is None or found.cells[self.choice.best].order is None:
            return units.NONE, ""
        cell = found.cells[self.choice.best]
        return f"{cell.text}{found.sign}", cell.detail

    provenances: tuple[provenance.Provenance, ...]
    shared: tuple[tuple[str, str], ...]


def write_report(
    results: tuple[Result, ...], rows: tuple[BuildRow, ...], out: Path, baseline: Both | None = None
) -> None:
    """Write the page to ``out``, whole or not at all; the same results give the same bytes. Raises ``StorageError``.

    With ``baseline``, older results and rows, the page shows what changed since.
    """
    write_text(out, to_html(results, rows, baseline))


def to_html(results: tuple[Result, ...], rows: tuple[BuildRow, ...], baseline: Both | None = None) -> str:
    """Return the page."""
    from markupsafe import Markup

    script = _script()
    hosts = _hosts(parted(results)[0])
    groups = make_groups(results, rows)
    sections = tuple(_section(group, hosts) for group in groups)
    page = (
        environment(_FOLDER, _OPTIONS)
        .get_template("page.html.jinja")
        .render(
            sections=sections,
            apart=kept_apart(groups),
            heading=_heading(sections),
            subtitle=_subtitle(sections, hosts),
            hosts=[(_host_name(i), provenance.host_text(host), " ".join(host.isa)) for i, host in enumerate(hosts)],
            style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            svg=Markup,
            swatch=lambda *arguments: Markup(plots.swatch(*arguments)),
            changes=compare_with_baseline((results, rows), baseline) if baseline is not None else None,
            words=WORDS,
            trial_headings=trials.HEADINGS,
            ranks={key: rank for rank, key in enumerate(_HEADLINES)},
            headlines=_MOST_HEADLINES,
            most_remarks=_MOST_REMARKS,
            most_names=_MOST_NAMES,
            most_devices=_MOST_DEVICES,
            bounds=roofline.BOUNDS,
            bound_swatch=lambda bound: Markup(roofline.swatch(bound)),
            plot_area=" ".join(f"{v:g}" for v in (plots.AREA.x1, plots.AREA.x2, plots.AREA.y1, plots.AREA.y2)),
            marks=MARKS,
            symbols=_SYMBOLS,
            version=__version__,
        )
    )
    return printable(page)


def _script() -> str:
    """Return the page's script: the parts share one function, so that nothing of them is global."""
    parts = [(_FOLDER / "script" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPT]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


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
    choice, kind = choose(entries, limits), quality_kind(entries)
    settable = make_fields(entries, limits)
    places = {host: _host_name(i) for i, host in enumerate(hosts)}
    latency_key = f"p{entries[0].ranked_by:g}"
    # One latency stands beside the recommendation: the one that it is by.
    titles = {key: title for key, title in _HEADLINES.items() if key not in ("p50", "p90") or key == latency_key}
    panels, origins = roofline.panels(entries, names), provenance.provenances(entries, places)
    shown = [panel.index for panel in panels]
    drawn = plots.quality_plot(entries), plots.energy_plot(entries), plots.distribution_plot(entries)
    return Section(
        group=group,
        table=table,
        names=names,
        choice=choice,
        nothing=nothing_found(entries),
        among=among(choice.candidates),
        caveat=caveat(entries),
        ties=listed([names[i] for i in choice.ties]),
        excluded=excluded(entries, limits, choice),
        standing=standing(entries),
        facts=model_text(entries),
        how_to_measure=how_to_measure(entries),
        devices=devices(entries),
        presets=offered_presets(entries, settable),
        undisturbed=limits.undisturbed,
        short=max((len(e.target) for e in entries), default=0) <= _SHORT_NAME,
        kept=sum(entry.status == "ok" and keeps(entry, limits, kind) for entry in entries),
        built=sum(entry.status == "ok" for entry in entries),
        quality_key={"accuracy": "accuracy", "agreement": "agreement"}.get(kind, "sqnr"),
        latency_key=latency_key,
        headline_titles=titles,
        stats=headlines(table, choice.best, titles) if choice.best is not None else (),
        fields=settable,
        preferences=preferences(settable),
        words=tuple(dict.fromkeys([*(e.target for e in entries), *(e.precision for e in entries)])),
        data=make_data(group, tuple(map(printable, names)), settable),
        quality_plot=drawn[0],
        energy_plot=drawn[1],
        hide_others=len(entries) > _MANY,
        distribution=drawn[2],
        precisions=tuple(dict.fromkeys(e.precision for e in entries if latency_of(e))),
        bars=bars.charts(entries, names),
        stack_bars=sum(plot is not None for plot in drawn) % 2 == 1,
        panels=panels,
        panels_left_out=roofline.left_out(entries, panels),
        first_panel=choice.best if choice.best in shown else next(iter(shown), -1),
        quality=quality.by_engine(entries),
        failures=remarks.failures(entries),
        disturbances=remarks.disturbances(entries),
        missing=remarks.not_measured(entries),
        circumstances=remarks.circumstances(entries),
        trials=trials.tried(entries),
        bundles=bundles_apart(group),
        changed=changes.changed_entries(entries),
        provenances=origins,
        shared=provenance.shared_facts(origins),
    )


def headlines(table: Table, index: int, titles: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return the headline figures of an entry: (title, value with unit, detail)."""
    found = []
    for key, title in titles.items():
        shown = column(table, key)
        if shown is not None and shown.cells[index].order is not None:
            cell = shown.cells[index]
            found.append((title or shown.title, f"{cell.text}{shown.sign}", cell.detail))
    return tuple(found[:_MOST_HEADLINES])
