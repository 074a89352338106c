"""What a precision gains over fp32 on its target: is it faster beyond the interval, and how much smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from edgepack.report.entries import Entry

Gain: TypeAlias = Literal["faster", "same", "slower"]


def gain_of(entry: Entry) -> Gain | None:
    """Return whether an entry is faster than its fp32, by the whole interval; None for fp32 or an unknown speed-up."""
    if entry.precision == "fp32" or entry.speedup is None:
        return None
    low, high = entry.speedup_ci95 or (entry.speedup, entry.speedup)
    if low > 1:
        return "faster"
    return "slower" if high < 1 else "same"


def bases_of(entries: Sequence[Entry]) -> tuple[int | None, ...]:
    """Return where the good fp32 entry stands that each is compared with: of its target, measured in the same way.

    An entry that was not measured is compared with any fp32 of its target. fp32 itself has none.
    """
    alike: dict[tuple[object, ...], int] = {}
    of_target: dict[str, int] = {}
    for i, entry in enumerate(entries):
        if entry.precision == "fp32" and entry.status == "ok":
            alike.setdefault((entry.target, _circumstances(entry)), i)
            of_target.setdefault(entry.target, i)
    return tuple(None if e.precision == "fp32" else _base(e, alike, of_target) for e in entries)


def _base(entry: Entry, alike: Mapping[tuple[object, ...], int], of_target: Mapping[str, int]) -> int | None:
    found = alike.get((entry.target, _circumstances(entry)))
    return of_target.get(entry.target) if found is None and entry.result is None else found


def replacements(entries: Sequence[Entry]) -> tuple[int | None, ...]:
    """Return the fp32 entry to take instead of each that is not faster than it; None where it is, or has none."""
    return tuple(
        base if gain_of(entry) in ("same", "slower") else None
        for entry, base in zip(entries, bases_of(entries), strict=True)
    )


def differing_bases(entries: Sequence[Entry]) -> tuple[int | None, ...]:
    """Return the fp32 entry that each was measured against in turn and surely differs from; None where it has none.

    Such pairs differ even where the intervals of their latencies overlap, since what disturbs a machine meets both.
    """
    return tuple(
        base if entry.paired and gain_of(entry) in ("faster", "slower") else None
        for entry, base in zip(entries, bases_of(entries), strict=True)
    )


def smaller(entry: Entry, base: Entry) -> float | None:
    """Return how many times smaller an entry is than another, in the size that is ranked; None where it is unknown."""
    if not entry.ranked_bytes or not base.ranked_bytes:
        return None
    return base.ranked_bytes / entry.ranked_bytes


def _circumstances(entry: Entry) -> tuple[object, ...] | None:
    result = entry.result
    return None if result is None else (result.host, result.scenario, result.options)
