"""One entry a line of the report: build rows and results of the same bundle brought together."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgepack.report import units
from edgepack.report.entries.ratios import unpaired_ratio
from edgepack.report.entries.standing import parted
from edgepack.specs.build import DISTURBED, BuildRow
from edgepack.specs.result import Percentile, Result
from edgepack.specs.run import Accuracy

Interval = tuple[float, float]

NOT_LABELLED = "accuracy was not measured: no labels"
_SHORT = 12


@dataclass(frozen=True)
class Entry:
    """A bundle on a device, and all that is known of it; ``result`` and ``row`` are where that is from.

    ``latency_ns`` maps a percentile to its estimate. ``speedup`` is over the fp32 bundle of the same model, target and
    host; ``paired`` says whether both were measured in turn. ``other_accuracy`` is an accuracy by another metric than
    most of the model's entries have: it cannot stand in one column with theirs. ``ranked_by`` is the percentile of
    latency by which all entries of the model are compared: one's p50 says nothing beside another's p90.
    ``model_bytes`` is the size of the engines' own files; None where it is not known of every bundle of the model.
    ``elsewhere`` are measurements of the bundle on machines that are not its target: they say nothing of the target,
    so that nothing of them is among the figures.
    """

    model: str
    source_sha256: str
    target: str
    precision: str
    status: str
    reason: str | None
    sha256: str | None
    size_bytes: int | None
    accuracy: Accuracy | None
    agreement: float | None
    agreement_ci95: Interval | None
    sqnr_db: float | None
    n: int | None
    latency_ns: dict[float, Percentile]
    speedup: float | None
    speedup_ci95: Interval | None
    paired: bool
    measured_on: str | None
    result: Result | None
    row: BuildRow | None
    other_accuracy: Accuracy | None = None
    ranked_by: float = 90.0
    elsewhere: tuple[Result, ...] = ()
    model_bytes: int | None = None

    @property
    def ranked_bytes(self) -> int | None:
        """Return the size by which all entries of the model are compared: golden vectors do not count if it can be."""
        return self.size_bytes if self.model_bytes is None else self.model_bytes

    @property
    def measured(self) -> bool:
        """Say whether latency was measured."""
        return self.percentile(50.0) is not None

    @property
    def disturbed(self) -> bool:
        """Say whether the measurement does not count."""
        if self.result is not None:
            return not self.result.valid
        return self.row is not None and self.row.notes.get("latency", "").startswith(DISTURBED)

    @property
    def single_stream(self) -> bool:
        """Say whether the latencies are of single samples, one after another."""
        return self.result is None or self.result.scenario.name == "SingleStream"

    def percentile(self, p: float) -> Percentile | None:
        """Return a percentile of latency that has a value."""
        found = self.latency_ns.get(p)
        return found if found is not None and found.value_ns is not None else None


@dataclass(frozen=True)
class Group:
    """The entries of one model. ``title`` tells models of the same name apart by their digests."""

    title: str
    source_sha256: str
    entries: tuple[Entry, ...]


def make_groups(results: Sequence[Result], rows: Sequence[BuildRow]) -> tuple[Group, ...]:
    """Return the entries of each model, in the order of the rows, then by target and precision.

    A row and results of the same bundle (sha256) make one entry each result. Models are kept apart by the digest of
    the model that was built from; rows that do not tell it go with the results of their build.
    """
    standing, elsewhere = parted(results)
    entries = [*_from_rows(standing, rows), *_from_results_alone(standing, rows)]
    entries = _with_elsewhere(entries, elsewhere)
    entries = _with_unpaired_speedups(entries)
    by_model: dict[tuple[str, str], list[Entry]] = {}
    models = _Models(entries)
    for entry in entries:
        by_model.setdefault(models.key_of(entry), []).append(entry)
    titles = Counter(title for title, _ in by_model)
    return tuple(
        Group(_title(title, digest, titles[title] > 1), digest, _comparable(members))
        for (title, digest), members in by_model.items()
    )


def _with_elsewhere(entries: list[Entry], elsewhere: Sequence[Result]) -> list[Entry]:
    """Return the entries with what was measured of their bundles on other machines; a bundle without entry gets one."""
    by_bundle: dict[str, list[Result]] = {}
    for result in elsewhere:
        by_bundle.setdefault(result.bundle_sha256, []).append(result)
    known = {entry.sha256 for entry in entries}
    found = [dataclasses.replace(e, elsewhere=tuple(by_bundle.get(e.sha256 or "", ()))) for e in entries]
    for results in (r for digest, r in by_bundle.items() if digest not in known):
        bare = dataclasses.replace(_from_result(results[0]), result=None, latency_ns={}, measured_on=None)
        found.append(dataclasses.replace(bare, elsewhere=tuple(results)))
    return found


def _comparable(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return _with_one_size(_with_one_percentile(_with_one_metric(entries)))


def _with_one_size(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries without the size of their models where some bundle's is not known."""
    if all(e.model_bytes is not None for e in entries if e.size_bytes is not None):
        return entries
    return tuple(dataclasses.replace(e, model_bytes=None) for e in entries)


def _with_one_metric(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries with one metric, by labels or by fp32's answers, as their accuracy: that of most of them."""
    measured = Counter(e.accuracy.what for e in entries if e.accuracy)
    if len(measured) < 2:
        return tuple(entries)
    (main, _), *_rest = measured.most_common()
    return tuple(
        dataclasses.replace(e, accuracy=None, other_accuracy=e.accuracy)
        if e.accuracy and e.accuracy.what != main
        else e
        for e in entries
    )


def _with_one_percentile(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries ranked by p90, or by p50 where fewer than half of the measured ones have a p90."""
    measured = [e for e in entries if e.measured and e.single_stream]
    if 2 * sum(e.percentile(90.0) is not None for e in measured) >= len(measured):
        return entries
    return tuple(dataclasses.replace(e, ranked_by=50.0) for e in entries)


# The entries that were asked for last, and their labels: a section asks ten times for those of the same tuple.
_last: tuple[Sequence[Entry], tuple[str, ...]] = ((), ())


def labels(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return what distinguishes each entry from the others: target and precision, and of the rest what differs."""
    global _last  # noqa: PLW0603
    if entries is not _last[0] or not isinstance(entries, tuple):
        _last = entries, _labels(entries)
    return _last[1]


def _labels(entries: Sequence[Entry]) -> tuple[str, ...]:
    names = [f"{entry.target} {entry.precision}" for entry in entries]
    for tell in _TELLS:
        details = [tell(entry) for entry in entries]
        known: dict[str, set[str]] = {}
        for name, detail in zip(names, details, strict=True):
            known.setdefault(name, set()).add(detail)
        names = [
            f"{name} {detail}" if detail and len(known[name]) > 1 else name
            for name, detail in zip(names, details, strict=True)
        ]
    return tuple(_numbered(names))


def _numbered(names: Sequence[str]) -> Iterator[str]:
    """Yield the names, with a number where one stands several times."""
    total, seen = Counter(names), Counter[str]()
    for name in names:
        seen[name] += 1
        yield f"{name} #{seen[name]}" if total[name] > 1 else name


def told_apart(entry: Entry, label: str) -> tuple[str, ...]:
    """Return what of an entry's label is neither shown with a target's other circumstances nor target or precision."""
    found = [tell(entry) for tell in (_tuned, _digest, _duration, _when)]
    number = re.search(r" (#[0-9]+)$", label)
    return (*(detail for detail in found if detail and f" {detail}" in label), *(number.groups() if number else ()))


def _host(entry: Entry) -> str:
    return f"on {short_cpu(entry.result.host.cpu)}" if entry.result else ""


def _scenario(entry: Entry) -> str:
    return entry.result.scenario.name if entry.result else ""


def _threads(entry: Entry) -> str:
    if entry.result is None:
        return ""
    return units.threads(entry.result.options.threads)


def _tuned(entry: Entry) -> str:
    return "tuned" if entry.result is not None and entry.result.tuned is not None else ""


def _tool(entry: Entry) -> str:
    return f"by {entry.result.imported.tool}" if entry.result is not None and entry.result.imported is not None else ""


def _duration(entry: Entry) -> str:
    return f"over {units.duration(entry.result.scenario.duration_ns)}" if entry.result else ""


def _digest(entry: Entry) -> str:
    return f"({entry.sha256[:8]})" if entry.sha256 else ""


def _when(entry: Entry) -> str:
    """Return when it was measured: all that may tell two measurements of one bundle apart."""
    return f"of {entry.result.measured_at[:19].replace('T', ' ')}" if entry.result and entry.result.measured_at else ""


_TELLS = (_host, _scenario, _threads, _tuned, _tool, _digest, _duration, _when)


@functools.lru_cache(maxsize=1024)
def short_cpu(name: str) -> str:
    """Return a CPU's name without trade marks and spare words."""
    cleaned = re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|\bProcessor\b|@.*", " ", name)
    return " ".join(cleaned.split()) or name


def _from_rows(results: Sequence[Result], rows: Sequence[BuildRow]) -> list[Entry]:
    of_bundle: dict[str | None, list[Result]] = {}
    for result in results:
        of_bundle.setdefault(result.bundle_sha256, []).append(result)
    entries = []
    for row in rows:
        mine = of_bundle.get(row.sha256, []) if row.sha256 is not None else []
        entries += [_merged(row, result) for result in mine]
        if not mine or _was_measured_elsewhere(row, mine):
            entries.append(_merged(row, None))
    return entries


def _was_measured_elsewhere(row: BuildRow, results: Sequence[Result]) -> bool:
    """Say whether a row's own measurement is of another machine than all results of its bundle: both are shown."""
    place = row.measured_on or ""
    return bool(place) and row.latency_ns is not None and all(result.host.cpu not in place for result in results)


def _from_results_alone(results: Sequence[Result], rows: Sequence[BuildRow]) -> list[Entry]:
    known = {row.sha256 for row in rows}
    alone = [result for result in results if result.bundle_sha256 not in known]
    order = {"fp32": 0, "bf16": 1, "fp16": 2, "int8": 3}
    alone.sort(key=lambda r: (r.bundle_name, r.target, order[r.precision], r.scenario.name, r.measured_at))
    return [_from_result(result) for result in alone]


def _merged(row: BuildRow, result: Result | None) -> Entry:
    # The row's speed-up belongs to the measurement that the row was filled from, not to later ones of the same bundle.
    own = result is None or row.latency_ns is None or row.latency_ns.p50 == _median(result)
    latency: dict[float, Percentile] = {}
    if result is not None:
        latency = {p.p: p for p in result.percentiles}
    elif row.latency_ns is not None:
        latency = {
            50.0: Percentile(50.0, row.latency_ns.p50, None, 0),
            90.0: Percentile(90.0, row.latency_ns.p90, None, 0),
        }
    return Entry(
        model=row.model or (result.bundle_name if result else ""),
        source_sha256=row.source_sha256 or (result.source_sha256 if result else ""),
        target=row.target,
        precision=row.precision,
        status=row.status,
        reason=row.reason,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        model_bytes=row.model_bytes if row.model_bytes is not None else (result.model_bytes if result else None),
        accuracy=row.accuracy,
        agreement=row.agreement,
        agreement_ci95=row.agreement_ci95,
        sqnr_db=row.judged_sqnr_db,
        n=row.accuracy.n if row.accuracy else row.n,
        latency_ns=latency,
        speedup=row.speedup_over_fp32 if own else None,
        speedup_ci95=row.speedup_ci95 if own else None,
        paired=own and row.speedup_over_fp32 is not None,
        measured_on=row.measured_on if result is None or (own and row.measured_on) else _measured_on(result),
        result=result,
        row=row,
    )


def _median(result: Result) -> int | None:
    return next((p.value_ns for p in result.percentiles if p.p == 50.0), None)


def _from_result(result: Result) -> Entry:
    quality = result.accuracy
    return Entry(
        model=result.bundle_name,
        source_sha256=result.source_sha256,
        target=result.target,
        precision=result.precision,
        status="ok",
        reason=None,
        sha256=result.bundle_sha256,
        size_bytes=result.size_bytes,
        model_bytes=result.model_bytes,
        accuracy=quality.accuracy if quality else None,
        agreement=quality.agreement if quality else None,
        agreement_ci95=None,
        sqnr_db=quality.sqnr_db if quality else None,
        n=quality.n if quality else None,
        latency_ns={p.p: p for p in result.percentiles},
        speedup=None,
        speedup_ci95=None,
        paired=False,
        measured_on=_measured_on(result),
        result=result,
        row=None,
    )


def _measured_on(result: Result) -> str:
    return f"{result.host.cpu}, {result.engine} {', '.join(result.versions.values())}"


def _with_unpaired_speedups(entries: list[Entry]) -> list[Entry]:
    """Return the entries with speed-ups over fp32 filled in from separate measurements of the same circumstances."""
    bases: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        if entry.precision == "fp32" and entry.result is not None and entry.percentile(50.0) is not None:
            bases.setdefault(_circumstances(entry), entry)
    filled = []
    for entry in entries:
        found = _unpaired(entry, bases) if entry.speedup is None else None
        filled.append(dataclasses.replace(entry, speedup=found[0], speedup_ci95=found[1]) if found else entry)
    return filled


def _unpaired(entry: Entry, bases: Mapping[tuple[object, ...], Entry]) -> tuple[float, Interval | None] | None:
    mine = entry.percentile(50.0)
    if entry.result is None or mine is None or not entry.single_stream:
        return None
    other = bases.get(_circumstances(entry))
    if other is None or other is entry:
        return None if other is None else (1.0, None)
    base = other.percentile(50.0)
    assert base is not None
    return unpaired_ratio(base, mine)


def _circumstances(entry: Entry) -> tuple[object, ...]:
    result = entry.result
    assert result is not None
    return (entry.model, entry.source_sha256, entry.target, result.host, result.scenario, result.options)


class _Models:
    """Which model an entry is of: its name and digest. A row without a digest takes the only one of its name."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._digests: dict[str, set[str]] = {}
        self._names: dict[str, set[str]] = {}
        for entry in entries:
            if entry.source_sha256:
                self._digests.setdefault(entry.model, set()).add(entry.source_sha256)
                self._names.setdefault(entry.source_sha256, set()).add(entry.model)

    def key_of(self, entry: Entry) -> tuple[str, str]:
        if entry.source_sha256:
            return entry.model, entry.source_sha256
        digests = self._digests.get(entry.model, set()) if entry.model else set(self._names)
        if len(digests) != 1:
            return entry.model, ""
        (digest,) = digests
        return entry.model or min(self._names[digest]), digest


def _title(name: str, digest: str, ambiguous: bool) -> str:
    shown = name or "model"
    return f"{shown} ({digest[:_SHORT] or 'digest unknown'})" if ambiguous else shown


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of points (cost, quality) than which no other is both cheaper and better, by cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front, best = [], -math.inf
    for i in order:
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front
