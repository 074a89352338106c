"""The least time that a device needs for one sample by its profile: a bound, never a measurement, and never ranked.

The roofline of Williams, Waterman and Patterson (CACM 52, 2009): arithmetic at the profile's dense peak, or the weights
moved once at its memory bandwidth, whichever takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.report import units
from edgepack.report.entries import Entry
from edgepack.report.entries.profile import is_elsewhere, profile_of
from edgepack.specs.target import Target


@dataclass(frozen=True)
class Bound:
    """``ns`` is the least time of one sample; ``by`` says whether arithmetic or memory sets it."""

    ns: int
    by: Literal["arithmetic", "memory"]

    @property
    def text(self) -> str:
        """Return the bound in words that no reader takes for a measurement."""
        why = "its peak for this precision" if self.by == "arithmetic" else "its bandwidth, the weights read once"
        return (
            f"at least {units.quantity(self.ns, units.TIMES)} a sample by {why} (a bound of the profile, not measured)"
        )


def bound_of(entry: Entry) -> Bound | None:
    """Return the bound of an entry whose device was not measured; None where profile or model do not tell one."""
    profile = profile_of(entry.target) if is_elsewhere(entry) and entry.status in ("ok", "poor") else None
    if profile is None:
        return None
    found = [bound for bound in (_by_arithmetic(entry, profile), _by_memory(entry, profile)) if bound is not None]
    return max(found, key=lambda bound: bound.ns, default=None)


def _by_arithmetic(entry: Entry, profile: Target) -> Bound | None:
    peak = profile.limits.peak_ops_per_s.get(entry.precision)
    macs = entry.row.facts.macs if entry.row is not None and entry.row.facts is not None else None
    return Bound(round(2 * macs * 1e9 / peak), "arithmetic") if peak and macs else None


def _by_memory(entry: Entry, profile: Target) -> Bound | None:
    """Weights that caches may hold from one sample to the next need not be moved: only what is larger counts."""
    speed = profile.limits.bandwidth_bytes_per_s
    moved = (entry.ranked_bytes or 0) - _CACHED.get(profile.arch, _CACHED_ELSEWHERE)
    return Bound(round(moved * 1e9 / speed), "memory") if speed and moved > 0 else None


# More than the last cache of the boards and PCs that have a profile: no profile states it, and a bound must hold.
_CACHED = {"x86_64": 64 << 20}
_CACHED_ELSEWHERE = 16 << 20
