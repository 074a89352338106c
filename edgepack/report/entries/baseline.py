"""``--baseline``: what became slower, larger or less accurate than in older results, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgepack.report import units
from edgepack.report.entries import Entry, Interval, labels, make_groups
from edgepack.report.entries.ratios import unpaired_ratio
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result
from edgepack.specs.run import Accuracy

Both: TypeAlias = tuple[tuple[Result, ...], tuple[BuildRow, ...]]
Change: TypeAlias = Literal["worse", "better", "same", "unclear"]

# Two measurements of one bundle on different days differ by more than their own intervals, which know of one process
# on one day: a change is only called one when its whole interval lies outside this margin.
MARGIN = 0.05


WORDS = {"worse": "worse", "better": "better", "same": "the same", "unclear": "no clear change"}


@dataclass(frozen=True)
class Difference:
    """One figure of one row then and now. ``ratio`` is new over old; of accuracy the difference in points."""

    row: str
    figure: str
    old: str
    new: str
    difference: str
    interval: str
    change: Change


@dataclass(frozen=True)
class Comparison:
    """Differences of the rows that are in both, and what could not be compared."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> tuple[Difference, ...]:
        """Return what became worse."""
        return tuple(d for d in self.differences if d.change == "worse")


def compare_with_baseline(new: Both, old: Both, margin: float = MARGIN) -> Comparison:
    """Compare rows of the same name, target, precision, host, scenario and options; others are named in the notes."""
    entries, before = _entries(new), _entries(old)
    known = {_key(entry): entry for entry in before}
    differences: list[Difference] = []
    notes: list[str] = []
    for entry, name in zip(entries, labels(entries), strict=True):
        was = known.pop(_key(entry), None)
        if was is None:
            notes.append(f"{name} is not in the baseline")
            continue
        if was.source_sha256 != entry.source_sha256 and was.source_sha256 and entry.source_sha256:
            notes.append(f"{name} was built from another model then ({was.source_sha256[:12]})")
        if entry.disturbed or was.disturbed:
            notes.append(
                f"{name}: {'both measurements were' if entry.disturbed and was.disturbed else 'one was'} disturbed"
            )
        differences += _differences(name, was, entry, margin)
    notes += [f"{entry.target} {entry.precision} is in the baseline only" for entry in known.values()]
    order = ("worse", "better", "unclear", "same")
    differences.sort(key=lambda d: order.index(d.change))
    return Comparison(tuple(differences), tuple(notes))


def _entries(both: Both) -> list[Entry]:
    return [entry for group in make_groups(*both) for entry in group.entries]


def _key(entry: Entry) -> tuple[object, ...]:
    result = entry.result
    where = (result.host.cpu, result.scenario.name, result.scenario.batch, result.options) if result else None
    return (entry.model, entry.target, entry.precision, where)


def _differences(name: str, old: Entry, new: Entry, margin: float) -> Iterator[Difference]:
    if new.status != old.status:
        change: Change = "worse" if old.status == "ok" else "better" if new.status == "ok" else "unclear"
        yield Difference(name, "state", old.status, new.status, "", "", change)
    for p in (50.0, 90.0):
        was, now = old.percentile(p), new.percentile(p)
        if was and now and new.single_stream and old.single_stream:
            ratio, interval = unpaired_ratio(now, was)
            texts = [units.quantity(v, units.TIMES) for v in (was.value_ns, now.value_ns)]
            yield _ratio(name, f"p{p:g}", texts, ratio, interval, margin)
    sizes = (("size", old.size_bytes, new.size_bytes), ("peak memory", _memory(old), _memory(new)))
    for figure, before, after in sizes:
        if before and after:
            texts = [units.quantity(v, units.SIZES) for v in (before, after)]
            exact = (after / before, after / before)
            yield _ratio(name, figure, texts, after / before, exact, margin)
    quality, quality_now = (entry.accuracy or entry.other_accuracy for entry in (old, new))
    if quality and quality_now and quality.what == quality_now.what:
        yield _accuracy(name, quality, quality_now)


def _memory(entry: Entry) -> int | None:
    return entry.result.memory_peak_bytes if entry.result else None


def _ratio(
    name: str, figure: str, texts: Sequence[str], ratio: float, interval: Interval | None, margin: float
) -> Difference:
    """Judge a figure of which less is better."""
    old, new = texts
    return Difference(name, figure, old, new, units.ratio(ratio), _ends(interval), _change(interval, 1.0, margin))


def _ends(interval: Interval | None) -> str:
    return "" if interval is None or interval[0] == interval[1] else units.Scale("", 1).interval(interval)


def _change(interval: Interval | None, same: float, margin: float) -> Change:
    if interval is None:
        return "unclear"
    low, high = interval
    if low > same + margin:
        return "worse"
    if high < same - margin:
        return "better"
    return "same" if same - margin <= low and high <= same + margin else "unclear"


def _accuracy(name: str, before: Accuracy, after: Accuracy) -> Difference:
    """Judge the change of the drop, whose intervals are taken as independent: the samples may be others."""
    change = after.drop - before.drop
    half = math.hypot((before.ci95[1] - before.ci95[0]) / 2, (after.ci95[1] - after.ci95[0]) / 2)
    unit = " points" if units.is_fraction(after.metric) else ""
    interval = (change - half, change + half)
    low, high = (units.drop(end, after.metric) for end in interval)
    return Difference(
        name,
        f"drop of {units.accuracy_title(after)}",
        units.drop(before.drop, before.metric) + unit,
        units.drop(after.drop, after.metric) + unit,
        units.drop(change, after.metric) + unit,
        f"{low} to {high}",
        _change(interval, 0.0, 0.0),
    )
