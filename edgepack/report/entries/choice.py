"""Which device and precision to take: the fastest that keeps the limits, and how sure that is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgepack.report.entries import Entry
from edgepack.report.entries.gain import differing_bases, replacements

Kind: TypeAlias = Literal["accuracy", "agreement", "sqnr", "none"]


@dataclass(frozen=True)
class Preset:
    """A limit on quality that nobody has to type: ``name`` says who would take it; None means no limit."""

    name: str
    quality: float | None


# By how quality is measured, the one first that stands in the page; 10 dB is the build's own floor (--min-sqnr).
_PRESETS: dict[Kind, tuple[Preset, ...]] = {
    "accuracy": (Preset("careful", 0.01), Preset("tolerant", 0.03)),
    "agreement": (Preset("careful", 0.95), Preset("tolerant", 0.85)),
    "sqnr": (Preset("tolerant", 10.0), Preset("careful", 20.0)),
}


@dataclass(frozen=True)
class Limits:
    """What a reader asks for; None is unlimited. ``quality`` is the largest drop, or the least agreement or SQNR."""

    latency_ns: float | None = None
    quality: float | None = None
    size_bytes: float | None = None
    memory_bytes: float | None = None
    energy_uj: float | None = None
    undisturbed: bool = False


@dataclass(frozen=True)
class Choice:
    """``best`` and ``ties`` index the entries: ties are those whose latency cannot be told apart from the best,
    neither by its interval nor by a ratio measured in turn.

    ``candidates`` counts the measured entries that keep the limits. ``excluded`` is what would be taken without the
    limit on quality, where that is another.
    """

    best: int | None
    ties: tuple[int, ...]
    candidates: int
    excluded: int | None = None


def quality_kind(entries: Sequence[Entry]) -> Kind:
    """Return by what entries are compared: measured accuracy, else agreement with fp32, else SQNR, else nothing."""
    if any(e.accuracy for e in entries):
        return "accuracy"
    if any(e.agreement is not None for e in entries):
        return "agreement"
    return "sqnr" if any(e.sqnr_db is not None for e in entries) else "none"


def presets(entries: Sequence[Entry]) -> tuple[Preset, ...]:
    """Return the presets of the limit on quality, first the one that stands in the page when it opens.

    That is the limit that the build was given, where all its rows were given one, and else the careful one. A limit on
    SQNR or agreement is not a statement about accuracy; the page says so beside it.
    """
    kind = quality_kind(entries)
    if kind == "none":
        return ()
    built = _limit_of_build(entries, kind)
    found = (Preset("as built", built),) if built is not None else ()
    others = (preset for preset in _PRESETS[kind] if preset.quality != built)
    return (*found, *others, Preset("any quality", None))


def _limit_of_build(entries: Sequence[Entry], kind: Kind) -> float | None:
    """Return the limit on quality in the commands of all rows, as ``Limits`` has it; None where they have none."""
    option = {"accuracy": "--max-drop", "agreement": "--max-change", "sqnr": "--min-sqnr"}[kind]
    found = {_given(entry.row.command, option) for entry in entries if entry.row is not None}
    value = next(iter(found)) if len(found) == 1 else None
    return 1 - value if value is not None and kind == "agreement" else value


def _given(command: Sequence[str], option: str) -> float | None:
    if option not in command[:-1]:
        return None
    try:
        value = float(command[command.index(option) + 1])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def default_limits(entries: Sequence[Entry]) -> Limits:
    """Return the limits that stand in the page when it opens: the first preset.

    Disturbed measurements do not count where there are others.
    """
    limit = next((preset.quality for preset in presets(entries)), None)
    counting = [e for e in entries if e.status == "ok" and latency_of(e) is not None]
    undisturbed = any(e.disturbed for e in counting) and not all(e.disturbed for e in counting)
    return Limits(quality=limit, undisturbed=undisturbed)


def latency_of(entry: Entry) -> tuple[int, int, int] | None:
    """Return the latency by which entries are ranked (``ranked_by``), with its interval in ns."""
    found = entry.percentile(entry.ranked_by)
    if found is None or found.value_ns is None or not entry.single_stream:
        return None
    low, high = found.ci95_ns or (found.value_ns, found.value_ns)
    return found.value_ns, low, high


def quality_of(entry: Entry, kind: Kind) -> float | None:
    """Return the figure that the limit on quality is about; None where it was not measured.

    SQNR of outputs identical to fp32's is infinite, which a build writes as no SQNR with a cosine of 1.
    """
    if kind == "accuracy":
        return entry.accuracy.drop if entry.accuracy else (0.0 if entry.precision == "fp32" else None)
    if kind == "agreement":
        return 1.0 if entry.agreement is None and entry.precision == "fp32" else entry.agreement
    if kind == "sqnr":
        return 1000.0 if entry.sqnr_db is None and entry.precision == "fp32" else entry.sqnr_db
    return None


def keeps(entry: Entry, limits: Limits, kind: Kind) -> bool:
    """Say whether an entry keeps every limit. What was not measured keeps no limit on it."""
    latency, result = latency_of(entry), entry.result
    return (
        _at_most(latency[0] if latency else None, limits.latency_ns)
        and _keeps_quality(quality_of(entry, kind), limits.quality, kind)
        and _at_most(entry.ranked_bytes, limits.size_bytes)
        and _at_most(result.memory_peak_bytes if result else None, limits.memory_bytes)
        and _at_most(result.energy_uj if result else None, limits.energy_uj)
        and not (limits.undisturbed and entry.disturbed)
    )


def choose(entries: Sequence[Entry], limits: Limits) -> Choice:
    """Return the fastest good entry that keeps the limits, and those that cannot be told apart from it.

    A precision that is not faster than its fp32 beyond the interval is passed over where that fp32 keeps them too.
    """
    chosen = _choose(entries, limits)
    free = _choose(entries, dataclasses.replace(limits, quality=None))
    return chosen if free.best == chosen.best else dataclasses.replace(chosen, excluded=free.best)


def _choose(entries: Sequence[Entry], limits: Limits) -> Choice:
    kind = quality_kind(entries)
    kept: dict[int, tuple[int, int, int]] = {}
    for i, entry in enumerate(entries):
        latency = latency_of(entry)
        if entry.status == "ok" and latency is not None and keeps(entry, limits, kind):
            kept[i] = latency
    instead = replacements(entries)
    worth = [(latency, i) for i, latency in kept.items() if instead[i] not in kept]
    if not worth:
        return Choice(None, (), 0)
    (_, _, high), best = min(worth)
    differs = differing_bases(entries)
    ties = tuple(
        i for i, (_, low, _) in kept.items() if i != best and low <= high and best != differs[i] and i != differs[best]
    )
    return Choice(best, ties, len(kept))


def _at_most(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def _keeps_quality(value: float | None, limit: float | None, kind: Kind) -> bool:
    if limit is None or kind == "none":
        return True
    if value is None:
        return False
    return value <= limit if kind == "accuracy" else value >= limit
