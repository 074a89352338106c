"""What was not measured and why, what failed, and what disturbs a measurement, each said once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report import units
from edgepack.report.entries import Entry, labels, short_cpu
from edgepack.specs.result import Result

# A figure that stands alone: not a version, a name or a digest.
_NUMBER = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?(?![\w.]*\w)")
_TITLES = {"sqnr_db": "SQNR", "speedup_over_fp32": "Speed-up over fp32", "p90": "p90", "isa": "Instruction set"}


# The notes of a row whose figures belong together: the least and the greatest of several rows would say nothing.
_OF_ONE_ROW = ("embedded", "answers")
# The notes of a row that say why a figure is not there.
_ABSENT = ("accuracy", "latency", "p90", "speedup_over_fp32", "layers", "agreement", "energy", "memory")


@dataclass(frozen=True)
class Remark:
    """One text and the entries that it is about; ``all`` when it is about every one."""

    text: str
    about: tuple[str, ...]
    all: bool


def not_measured(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return what is missing with the reason, each said once."""
    return _collected(entries, missing)


def failures(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return why entries failed or missed their gate."""
    return _collected(
        entries, lambda e: [e.reason or "no reason was given"] if e.status not in ("ok", "skipped") else []
    )


def disturbances(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return why measurements do not count."""
    return _collected(entries, lambda e: list(e.result.invalid_reasons) if e.result else [])


def circumstances(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return what a reader should know of rows and of measurements that count."""
    return _collected(entries, lambda e: [*_told(e), *(e.result.notes if e.result else ())])


def _told(entry: Entry) -> list[str]:
    """Return the notes of a row that say how it came to be, not what is missing."""
    if entry.row is None or entry.status in ("failed", "skipped"):
        return []
    return [_titled(what, why) for what, why in entry.row.notes.items() if what not in _ABSENT]


def _titled(what: str, why: str) -> str:
    return f"{_TITLES.get(what) or what.capitalize()}: {why}"


def _collected(entries: Sequence[Entry], texts_of: object) -> tuple[Remark, ...]:
    about: dict[str, list[str]] = {}
    for entry, name in zip(entries, labels(entries), strict=True):
        for text in dict.fromkeys(texts_of(entry)):  # type: ignore[operator]
            about.setdefault(text, []).append(name)
    own = tuple(_titled(what, "") for what in _OF_ONE_ROW)
    alike: dict[str, list[str]] = {}
    for text in about:
        alike.setdefault(text if text.startswith(own) else _NUMBER.sub("0", text), []).append(text)
    found = []
    for texts in alike.values():
        names = tuple(dict.fromkeys(name for text in texts for name in about[text]))
        found.append(Remark(_merged(texts), names, len(names) == len(entries)))
    return tuple(found)


def _merged(texts: Sequence[str]) -> str:
    """Return one text for several that differ in their figures only: of each the least and the greatest."""
    columns = zip(*(_NUMBER.findall(text) for text in texts), strict=True)
    ranges = (sorted(set(column), key=float) for column in columns)
    shown = iter([ends[0] if len(ends) == 1 else units.between(ends[0], ends[-1]) for ends in ranges])
    return _NUMBER.sub(lambda _: next(shown), texts[0])


def missing(entry: Entry) -> list[str]:
    """Return what is missing of one entry, with the reasons."""
    if entry.status == "failed":
        return []
    if entry.status == "skipped":
        return [f"Skipped: {entry.reason or 'no reason was given'}"]
    found = []
    notes = dict(entry.row.notes) if entry.row else {}
    if entry.accuracy is None:
        reason = notes.pop("accuracy", None) or _why_no_accuracy(entry)
        found.append(f"Accuracy: {reason}")
    if not entry.measured and entry.single_stream:
        found.append(f"Latency: {notes.pop('latency', 'not measured')}")
    found += [f"Measured elsewhere: {text}" for text in dict.fromkeys(map(_elsewhere, entry.elsewhere))]
    if entry.result is not None and entry.result.energy_uj is None:
        found.append(f"Energy: {entry.result.energy_source}")
    if entry.result is not None and entry.result.memory_peak_bytes is None:
        found.append("Memory: the system does not report a process's peak")
    if entry.measured and entry.single_stream and not entry.percentile(entry.ranked_by) and "p90" not in notes:
        found.append(f"p90: not enough queries ({entry.result.queries if entry.result else 0}), so it is not compared")
    if _has_no_base(entry) and "speedup_over_fp32" not in notes:
        found.append("Speed-up over fp32: fp32 was not measured on the same target and host with the same run options")
    notes = {k: v for k, v in notes.items() if not (k == "latency" and entry.disturbed)}
    return found + [_titled(what, why) for what, why in notes.items() if what in _ABSENT]


def _elsewhere(result: Result) -> str:
    """Return what was measured of a bundle on another machine than its target."""
    median = next((p.value_ns for p in result.percentiles if p.p == 50.0), None)
    figure = "" if median is None else f", {result.scenario.name} p50 {units.quantity(median, units.TIMES)}"
    return (
        f"on {short_cpu(result.host.cpu)} with {result.engine}{figure}; that is not {result.target}, so this says "
        "nothing of its speed"
    )


def _has_no_base(entry: Entry) -> bool:
    return entry.result is not None and entry.measured and entry.single_stream and entry.speedup is None


def _why_no_accuracy(entry: Entry) -> str:
    if entry.other_accuracy is not None:
        measured = units.accuracy_title(entry.other_accuracy)
        return f"something else was measured ({measured}), which cannot be compared with the others"
    note = entry.result.accuracy.note if entry.result and entry.result.accuracy else None
    return note or "not measured: no labels were given"
