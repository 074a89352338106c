"""What a search for a quantization that keeps the accuracy has tried, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report import units
from edgepack.report.entries import Entry, labels
from edgepack.specs.build import Trial

_MOST_NAMES = 4
HEADINGS = ("Left in fp32", "Work in fp32, %", "Value", "Drop", "SQNR, dB", "p50", "")


@dataclass(frozen=True)
class Tried:
    """The trials of one entry: its name, the metric, and one row of texts a trial, in the order of ``HEADINGS``."""

    label: str
    metric: str
    rows: tuple[tuple[str, ...], ...]


def tried(entries: Sequence[Entry]) -> tuple[Tried, ...]:
    """Return the trials of every entry that had any."""
    found = []
    for entry, name in zip(entries, labels(entries), strict=True):
        if entry.row is not None and entry.row.trials:
            metric = units.metric_title(entry.row.trials[0].metric)
            found.append(Tried(name, metric, tuple(_texts(trial) for trial in entry.row.trials)))
    return tuple(found)


def _texts(trial: Trial) -> tuple[str, ...]:
    factor, sign = (100, " %") if units.is_fraction(trial.metric) else (1, "")
    verdict = "passed" if trial.passed else "not enough"
    return (
        _names(trial.left),
        units.percent(trial.macs_share),
        units.digits(factor * trial.value, 4) + sign,
        units.drop(trial.drop, trial.metric),
        units.digits(trial.sqnr_db) if trial.sqnr_db is not None else units.NONE,
        units.quantity(trial.p50_ns, units.TIMES),
        f"{verdict}, on the front" if trial.front else verdict,
    )


def _names(left: Sequence[str]) -> str:
    if not left:
        return "nothing"
    shown = ", ".join(left[:_MOST_NAMES])
    return shown if len(left) <= _MOST_NAMES else f"{shown} and {len(left) - _MOST_NAMES} more"
