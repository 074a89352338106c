"""Which device and precision to take: the fastest that keeps the limits, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgepack.report.entries import Entry

Kind: TypeAlias = Literal["accuracy", "agreement", "sqnr", "none"]

DEFAULT_DROP = 0.01
DEFAULT_AGREEMENT = 0.95
DEFAULT_SQNR_DB = 10.0


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
    """``best`` and ``ties`` index the entries: ties are those whose latency cannot be told apart from the best.

    ``candidates`` counts the measured entries that keep the limits.
    """

    best: int | None
    ties: tuple[int, ...]
    candidates: int


def quality_kind(entries: Sequence[Entry]) -> Kind:
    """Return by what entries are compared: measured accuracy, else agreement with fp32, else SQNR, else nothing."""
    if any(e.accuracy for e in entries):
        return "accuracy"
    if any(e.agreement is not None for e in entries):
        return "agreement"
    return "sqnr" if any(e.sqnr_db is not None for e in entries) else "none"


def default_limits(entries: Sequence[Entry]) -> Limits:
    """Return the limit that stands in the page when it opens: one point of drop, or 95 % agreement, or 10 dB.

    A limit on SQNR or agreement is no statement about accuracy; the page says so beside it. Disturbed measurements do
    not count where there are others.
    """
    kind = quality_kind(entries)
    limit = {"accuracy": DEFAULT_DROP, "agreement": DEFAULT_AGREEMENT, "sqnr": DEFAULT_SQNR_DB}.get(kind)
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
        and _at_most(entry.size_bytes, limits.size_bytes)
        and _at_most(result.memory_peak_bytes if result else None, limits.memory_bytes)
        and _at_most(result.energy_uj if result else None, limits.energy_uj)
        and not (limits.undisturbed and entry.disturbed)
    )


def choose(entries: Sequence[Entry], limits: Limits) -> Choice:
    """Return the fastest good entry that keeps the limits, and those whose intervals overlap with its own."""
    kind = quality_kind(entries)
    candidates = []
    for i, entry in enumerate(entries):
        latency = latency_of(entry)
        if entry.status == "ok" and latency is not None and keeps(entry, limits, kind):
            candidates.append((latency, i))
    if not candidates:
        return Choice(None, (), 0)
    (_, _, high), best = min(candidates)
    ties = tuple(i for (_, low, _), i in candidates if i != best and low <= high)
    return Choice(best, ties, len(candidates))


def _at_most(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def _keeps_quality(value: float | None, limit: float | None, kind: Kind) -> bool:
    if limit is None or kind == "none":
        return True
    if value is None:
        return False
    return value <= limit if kind == "accuracy" else value >= limit
