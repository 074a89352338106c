"""The report's table: entries to columns of figures with their intervals; a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report import units
from edgepack.report.entries import Entry, Group, labels, short_cpu, told_apart
from edgepack.report.entries.choice import Kind, quality_kind
from edgepack.report.entries.gain import gain_of
from edgepack.report.entries.places import places
from edgepack.report.text.bounds import bound_of
from edgepack.specs.result import Percentile
from edgepack.specs.run import Accuracy

_MOST_COLUMNS = 12
MARKS = {
    "measured": "measured",
    "disturbed": "disturbed",
    "imported": "imported",
    "unmeasured": "not measured",
    "failed": "failed",
    "gate_missed": "gate missed",
    "poor": "poor",
    "skipped": "skipped",
}


@dataclass(frozen=True)
class Cell:
    """A figure; ``detail`` is its interval or what a reader must know of it, ``order`` what a column is sorted by."""

    text: str
    detail: str = ""
    order: float | str | None = None


@dataclass(frozen=True)
class Column:
    """``unit`` is said once, in the heading. ``key`` names the column in the page and in tests."""

    key: str
    title: str
    unit: str
    cells: tuple[Cell, ...]

    @property
    def heading(self) -> str:
        """Return title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def sign(self) -> str:
        """Return what stands behind a figure that is shown outside the table."""
        if self.key in ("speedup", "target", "precision") or not self.unit:
            return ""
        return f" {self.unit.removesuffix(' with fp32')}"


@dataclass(frozen=True)
class Table:
    """Columns of equal length; a column in which nothing was measured is left out. ``marks`` are keys of ``MARKS``."""

    labels: tuple[str, ...]
    marks: tuple[str, ...]
    columns: tuple[Column, ...]
    footnotes: tuple[str, ...]


def make_table(group: Group) -> Table:
    """Return the table of one model's entries."""
    entries, names = group.entries, labels(group.entries)
    cpus = places(entries)
    differs = _differing(entries, cpus)
    where = [Cell(e.target, _place(e, cpu, name, differs)) for e, cpu, name in zip(entries, cpus, names, strict=True)]
    columns = [
        _words("target", "Target", where),
        _words("precision", "Precision", [Cell(e.precision) for e in entries]),
        *_latencies(entries),
        _throughput(entries),
        _speedup(entries),
        *_quality(entries),
        _first_answer(entries),
        _size(entries),
        _memory(entries),
        _energy(entries),
        _limit(entries),
    ]
    found = [c for c in columns if c is not None]
    if len(found) > _MOST_COLUMNS:  # the page would cut the last ones: each row's details have it too
        found = [c for c in found if c.key != "first"]
    return Table(names, tuple(mark(e) for e in entries), tuple(found), tuple(_footnotes(entries)))


def mark(entry: Entry) -> str:
    """Return how far an entry got: a key of ``MARKS``."""
    if entry.status != "ok":
        return entry.status
    if not entry.measured and (entry.result is None or entry.single_stream):
        return "unmeasured"
    if entry.disturbed:
        return "disturbed"
    # Whether the machine was quiet is not known of what another tool measured.
    return "imported" if entry.result is not None and entry.result.imported is not None else "measured"


def _differing(entries: Sequence[Entry], cpus: Sequence[str]) -> frozenset[str]:
    """Return in which circumstances the measurements of a table differ."""
    results = [entry.result for entry in entries if entry.result is not None]
    found: dict[str, set[object]] = {
        "host": {cpu for cpu in cpus if cpu},
        "scenario": {(r.scenario.name, r.scenario.batch) for r in results},
        "threads": {r.options.threads for r in results},
    }
    return frozenset(name for name, values in found.items() if len(values) > 1)


def _place(entry: Entry, cpu: str, label: str, differs: frozenset[str]) -> str:
    """Return what is shown below a target's name: what differs within the table and identifies the row."""
    parts = [short_cpu(cpu)] if cpu and "host" in differs else []
    if entry.result is None:
        return ", ".join(parts)
    if "scenario" in differs:
        batch = entry.result.scenario.batch
        parts.append(entry.result.scenario.name + (f", batch {batch}" if batch > 1 else ""))
    if "threads" in differs:
        threads = entry.result.options.threads
        parts.append(units.threads(threads))
    if entry.result.imported is not None:
        parts.append(f"by {entry.result.imported.tool}")
    return ", ".join([*parts, *(detail for detail in told_apart(entry, label) if detail not in parts)])


def _words(key: str, title: str, cells: Sequence[Cell]) -> Column:
    return Column(key, title, "", tuple(Cell(c.text, c.detail, c.text) for c in cells))


def _latencies(entries: Sequence[Entry]) -> list[Column | None]:
    """Return p50, p90 and p99 in one unit. Only single samples are shown: a batch's latency is another quantity."""
    alone = [e if e.single_stream else None for e in entries]
    found = {p: [e.percentile(p) if e else None for e in alone] for p in (50.0, 90.0, 99.0)}
    scale = units.scale_for([q.value_ns for q in found[50.0] if q], units.TIMES)
    return [
        _figures(
            f"p{p:g}", f"p{p:g}", scale.unit, [_latency(q, e, p, scale) for q, e in zip(found[p], alone, strict=True)]
        )
        for p in found
    ] + [_bounds(entries)]


def _bounds(entries: Sequence[Entry]) -> Column | None:
    """Return the bounds of devices where none was measured; else they stand below the dash in the column of p50."""
    if any(e.measured for e in entries):
        return None
    found = [bound_of(e) for e in entries]
    scale = units.scale_for([b.ns if b else None for b in found], units.TIMES)
    cells = [Cell(f"\u2265 {scale.show(b.ns)}", f"by {b.by}", float(b.ns)) if b else Cell(units.NONE) for b in found]
    return _figures("bound", "Bound", f"{scale.unit}, not measured", cells)


def _latency(found: Percentile | None, entry: Entry | None, p: float, scale: units.Scale) -> Cell:
    if found is not None and found.value_ns is not None:
        return Cell(scale.show(found.value_ns), scale.interval(found.ci95_ns), float(found.value_ns))
    wanted = entry.latency_ns.get(p) if entry else None
    if entry is not None and entry.result is not None and wanted is not None and wanted.queries_needed:
        return Cell(units.NONE, f"{units.count(wanted.queries_needed - entry.result.queries)} more queries")
    bound = bound_of(entry) if entry is not None and p == 50.0 else None
    return Cell(units.NONE, f"bound \u2265 {scale.show(bound.ns)}" if bound else "")


def _throughput(entries: Sequence[Entry]) -> Column | None:
    """Return samples per second where some entry's scenario is about it; of single samples the latency says it."""
    if all(e.single_stream for e in entries):
        return None
    plain = units.Scale("", 1)
    cells = []
    for entry in entries:
        if entry.result is None:
            cells.append(Cell(units.NONE))
        else:
            rate = entry.result.samples_per_second
            cells.append(Cell(units.digits(rate), plain.interval(entry.result.samples_per_second_ci95), rate))
    return _figures("throughput", "Throughput", "samples/s", cells)


_NOT_FASTER = {"same": "not faster", "slower": "slower"}


def _speedup(entries: Sequence[Entry]) -> Column | None:
    plain = units.Scale("", 1)
    cells = []
    for e in entries:
        base = e.precision == "fp32" and e.speedup is not None
        detail = "the base" if base else plain.interval(e.speedup_ci95)
        detail = ", ".join(filter(None, (detail, _NOT_FASTER.get(gain_of(e) or "", ""))))
        if _apart(e):
            detail = f"{detail} †".strip()
        cells.append(Cell(units.ratio(e.speedup), detail, e.speedup))
    if all(e.precision == "fp32" or e.speedup is None for e in entries):
        return None
    return _figures("speedup", "Speed\u2011up", "over fp32", cells)


def _quality(entries: Sequence[Entry]) -> list[Column | None]:
    kind = quality_kind(entries)
    columns: list[Column | None] = []
    if kind == "accuracy":
        first = next(e.accuracy for e in entries if e.accuracy)
        fraction = units.is_fraction(first.metric)
        columns += [_metric(entries, first, fraction=fraction), _drop(entries, first.metric, fraction=fraction)]
    if kind == "agreement":
        cells = [Cell(units.percent(e.agreement), _percents(e.agreement_ci95), e.agreement) for e in entries]
        columns.append(_figures("agreement", "Agreement", "% with fp32", cells))
    if kind != "accuracy" and any(e.sqnr_db is not None for e in entries):
        cells = [Cell(units.digits(e.sqnr_db) if e.sqnr_db is not None else units.NONE, "", e.sqnr_db) for e in entries]
        columns.append(_figures("sqnr", "SQNR", "dB", cells))
    return columns


def _metric(entries: Sequence[Entry], first: Accuracy, *, fraction: bool) -> Column | None:
    cells = []
    for e in entries:
        value = e.accuracy.value if e.accuracy else None
        text = units.percent(value) if fraction else (units.digits(value, 4) if value is not None else units.NONE)
        cells.append(Cell(text, f"n = {units.count(e.accuracy.n)}" if e.accuracy else "", value))
    return _figures("accuracy", units.accuracy_heading(first), "%" if fraction else "", cells)


def _drop(entries: Sequence[Entry], metric: str, *, fraction: bool) -> Column | None:
    cells = []
    for e in entries:
        if e.accuracy is None:
            cells.append(Cell(units.NONE))
            continue
        low, high = (units.drop(end, metric) for end in e.accuracy.ci95)
        cells.append(Cell(units.drop(e.accuracy.drop, metric), f"{low} to {high}", e.accuracy.drop))
    return _figures("drop", "Drop", "points" if fraction else "", cells)


def _percents(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else units.between(units.percent(ends[0]), units.percent(ends[1]))


def size_title(entries: Sequence[Entry]) -> str:
    """Return what the ranked size is of: the model alone, or the whole bundle where the model's is not known."""
    return "Model size" if any(e.model_bytes is not None for e in entries) else "Bundle size"


def _size(entries: Sequence[Entry]) -> Column | None:
    """Return the ranked size, and below a model's size that of its bundle, which carries golden vectors besides."""
    scale = units.scale_for([e.ranked_bytes for e in entries], units.SIZES)
    cells = [
        Cell(
            scale.show(e.ranked_bytes),
            f"bundle {scale.show(e.size_bytes)}" if e.model_bytes is not None else "",
            e.ranked_bytes,
        )
        for e in entries
    ]
    return _figures("size", size_title(entries), scale.unit, cells)


def _first_answer(entries: Sequence[Entry]) -> Column | None:
    """Return how long a process takes until it has its first answer, and below it what loading takes of that."""
    firsts = [e.result.first_answer_ns if e.result else None for e in entries]
    loads = [e.result.load_ns if e.result else None for e in entries]
    scale = units.scale_for(firsts, units.TIMES)
    cells = [
        Cell(scale.show(first), f"load {scale.show(load)}" if first is not None and load is not None else "", first)
        for first, load in zip(firsts, loads, strict=True)
    ]
    return _figures("first", "First answer", scale.unit, cells)


def _memory(entries: Sequence[Entry]) -> Column | None:
    """Return the peak, and below it what loading added: the rest is of inference and of Python itself."""
    peaks = [e.result.memory_peak_bytes if e.result else None for e in entries]
    loads = [e.result.memory_load_bytes if e.result else None for e in entries]
    scale = units.scale_for(peaks, units.SIZES)
    cells = [
        Cell(scale.show(peak), f"load {scale.show(load)}" if peak is not None and load is not None else "", peak)
        for peak, load in zip(peaks, loads, strict=True)
    ]
    return _figures("memory", "Peak memory", scale.unit, cells)


def _limit(entries: Sequence[Entry]) -> Column | None:
    """Return what share of the speed that the host allows was reached."""
    cells = []
    for entry in entries:
        limit = entry.result.limit if entry.result else None
        if limit is None:
            cells.append(Cell(units.NONE))
        else:
            floor = units.quantity(limit.floor_ns, units.TIMES)
            cells.append(Cell(units.percent(limit.fraction), f"floor {floor}", limit.fraction))
    return _figures("limit", "Of the limit", "%", cells)


def _energy(entries: Sequence[Entry]) -> Column | None:
    values = [e.result.energy_uj if e.result else None for e in entries]
    scale = units.scale_for(values, units.ENERGIES)
    return _figures("energy", "Energy", scale.unit, [Cell(scale.show(v), "", v) for v in values])


def _figures(key: str, title: str, unit: str, cells: Sequence[Cell]) -> Column | None:
    return Column(key, title, unit, tuple(cells)) if any(c.order is not None for c in cells) else None


def _apart(entry: Entry) -> bool:
    """Say whether a speed-up is of measurements that were not made in turn."""
    return entry.speedup is not None and not entry.paired and entry.precision != "fp32"


def _footnotes(entries: Sequence[Entry]) -> list[str]:
    notes = ["Intervals are of 95 %."]
    kind: Kind = quality_kind(entries)
    if kind == "accuracy":
        notes.append("The interval of a drop is of the paired difference to fp32 on the same samples.")
    elif kind == "agreement":
        n = next((e.n for e in entries if e.n), None)
        number = f" (n = {units.count(n)})" if n else ""
        notes.append(
            f"Agreement{number} is how often the same class comes first as with fp32; "
            "accuracy was not measured: no labels."
        )
    elif kind == "none":
        notes.append("Neither accuracy nor agreement with fp32 is known.")
    if any(bound_of(e) for e in entries):
        notes.append(
            "A bound is the least time that a device's profile allows (its peak, or its memory bandwidth for weights "
            "that no cache holds): it says what is impossible, not how fast a device is, and takes no part in a choice."
        )
        reached = [e.result.limit.fraction for e in entries if e.result is not None and e.result.limit is not None]
        if reached:
            shown = units.percent(max(reached), 0)
            notes.append(f"For scale: the nearest that a measured row here came to its own bound is {shown} % of it.")
    if any(gain_of(e) in _NOT_FASTER for e in entries):
        notes.append("Where a precision is not faster than fp32 beyond the interval, fp32 is recommended.")
    if any(_apart(e) for e in entries):
        notes.append("† compares measurements made one after the other, not in turn.")
    return notes


def column(table: Table, key: str) -> Column | None:
    """Return a table's column by its key."""
    return next((c for c in table.columns if c.key == key), None)
