"""``--fail-if``: conditions such as "p90 > 20ms" or "drop > 1.0", read by a small grammar and nothing else.

condition = figure comparison number [unit]
figure    = p50 | p90 | p95 | p99 | p99.9 | throughput | speedup | accuracy | drop | agreement | sqnr | size
          | memory | energy | cv
comparison = > | >= | < | <=
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError
from edgepack.report import units
from edgepack.report.entries import Entry, Interval, labels
from edgepack.report.text.table import mark
from edgepack.verify.metrics import has_own_unit

Outcome: TypeAlias = Literal["passed", "failed", "error", "skipped"]

_TIME = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_ENERGY = {"uJ": 1.0, "µJ": 1.0, "mJ": 1e3, "J": 1e6}
_PERCENT = {"": 0.01, "%": 0.01}
# As in --max-drop: a bare number is what the metric is in, a fraction for most.
_POINTS = {"": 1.0, "points": 0.01, "point": 0.01, "pt": 0.01, "pp": 0.01, "%": 0.01}
_MOST_BARE = 0.2  # a larger bare drop of a fraction was meant as points
_IN_PERCENT = ("accuracy", "agreement")
_LEAST_BARE = 1.0  # what is bare and no more was meant as a fraction, or as that many per cent: nobody knows
_PERCENTILES = ("p50", "p90", "p95", "p99", "p99.9")
_UNITS: Mapping[str, Mapping[str, float]] = {
    **dict.fromkeys(_PERCENTILES, _TIME),
    "throughput": {"": 1.0, "/s": 1.0},
    "speedup": {"": 1.0, "x": 1.0},
    "accuracy": _PERCENT,
    "drop": _POINTS,
    "agreement": _PERCENT,
    "sqnr": {"": 1.0, "dB": 1.0},
    "size": _BYTES,
    "memory": _BYTES,
    "energy": _ENERGY,
    "cv": {"": 1.0},
}
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_GRAMMAR = re.compile(r"\s*([A-Za-z][A-Za-z0-9.]*)\s*(>=|<=|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ%/]*)\s*")
_NOT_BUILT = ("failed", "skipped")
_LONGEST = 100
_EXAMPLES = "for example 'p90 > 20ms', 'drop > 1pt' (points), 'agreement < 98' (%), 'size > 5MB'"


@dataclass(frozen=True)
class Condition:
    """A condition that must not hold. ``bound`` is in base units; of accuracy a fraction. ``bare``: without a unit."""

    text: str
    figure: str
    comparison: str
    bound: float
    bare: bool = False


@dataclass(frozen=True)
class Finding:
    """The outcome of a condition for one row."""

    condition: str
    row: str
    outcome: Outcome
    message: str


def parse_condition(text: str) -> Condition:
    """Return the condition that ``text`` states. Raises ``ConfigError`` with what to write instead."""
    match = _GRAMMAR.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ConfigError(f"--fail-if {text[:_LONGEST]!r} is not a condition", hint=_EXAMPLES)
    figure, comparison, number, unit = match.groups()
    if figure not in _UNITS:
        raise ConfigError(f"--fail-if {text!r}: unknown figure {figure!r}", hint=suggestion(figure, _UNITS))
    allowed = _UNITS[figure]
    if unit not in allowed:
        known = ", ".join(repr(name) for name in allowed if name) or "no unit"
        raise ConfigError(f"--fail-if {text!r}: {figure} has no unit {unit!r}", hint=f"give one of {known}")
    return Condition(" ".join(text.split()), figure, comparison, float(number) * allowed[unit], bare=not unit)


def judge(entries: Sequence[Entry], conditions: Sequence[Condition]) -> tuple[Finding, ...]:
    """Return what each condition says of each row, and of each row that failed by itself.

    A row that was not measured on this host is skipped; a figure that is missing from a measured row is an error, and
    so is a condition that could be judged for no row at all: a gate must not pass in silence.
    """
    names = labels(entries)
    found = [_built(entry, name) for entry, name in zip(entries, names, strict=True)]
    for condition in conditions:
        judged = [_judge(entry, name, condition) for entry, name in zip(entries, names, strict=True)]
        found += judged
        built = (entry for entry in entries if entry.status not in _NOT_BUILT)
        if all(figure_of(entry, condition.figure)[0] is None for entry in built):
            found.append(Finding(condition.text, "all rows", "error", f"{condition.figure} is not known for any row"))
    return tuple(found)


def _built(entry: Entry, name: str) -> Finding:
    if entry.status == "ok":
        return Finding("build", name, "passed", "")
    outcomes: Mapping[str, Outcome] = {"gate_missed": "failed", "poor": "failed", "skipped": "skipped"}
    outcome = outcomes.get(entry.status, "error")
    return Finding("build", name, outcome, entry.reason or mark(entry))


def _judge(entry: Entry, name: str, condition: Condition) -> Finding:
    if entry.status in _NOT_BUILT:
        return Finding(
            condition.text, name, "skipped", f"the row {'failed' if entry.status == 'failed' else 'was skipped'}"
        )
    value, interval = figure_of(entry, condition.figure)
    if condition.figure == "accuracy" and condition.bare and _has_own_unit(entry):
        condition = dataclasses.replace(condition, bound=condition.bound / _PERCENT[""])  # not read as per cent
    if value is None:
        measured = entry.result is not None or condition.figure not in (*_PERCENTILES, "throughput", "memory", "cv")
        outcome: Outcome = "error" if measured and condition.figure not in ("speedup", "energy") else "skipped"
        return Finding(condition.text, name, outcome, f"{condition.figure} was not measured{_why(entry, condition)}")
    if (said := _ambiguous(condition, entry)) is not None:
        return Finding(condition.text, name, "error", said)
    if condition.figure == "drop" and condition.bare and abs(condition.bound) > _MOST_BARE and _of_fraction(entry):
        meant = (
            f"{condition.bound:g} is {100 * condition.bound:g} points, as in --max-drop: write {condition.bound:g}pt"
        )
        return Finding(condition.text, name, "error", f"{meant} if points were meant, else {100 * condition.bound:g}pt")
    message = _worded(condition.figure, value, interval, own=_has_own_unit(entry))
    if not _COMPARISONS[condition.comparison](value, condition.bound):
        return Finding(condition.text, name, "passed", message)
    if interval is not None and interval[0] <= condition.bound <= interval[1]:
        message += "; the bound lies within the interval, so a longer measurement may say otherwise"
    return Finding(condition.text, name, "failed", message)


def _ambiguous(condition: Condition, entry: Entry) -> str | None:
    """Return what to write for a bare share of at most 1, which per cent would let pass in silence."""
    if condition.figure not in _IN_PERCENT or not condition.bare:
        return None
    bare = condition.bound / _PERCENT[""]
    if not 0 < bare <= _LEAST_BARE or (condition.figure == "accuracy" and _has_own_unit(entry)):
        return None
    return f"{bare:g} may be a fraction: write {100 * bare:g}% for that, else {bare:g}%"


def _why(entry: Entry, condition: Condition) -> str:
    accuracy = entry.accuracy or entry.other_accuracy
    if condition.figure == "accuracy" and accuracy is not None and accuracy.truth == "fp32":
        return ": there were no labels, and fp32's own answers were taken for right; a drop can be asked for"
    return ""


def _of_fraction(entry: Entry) -> bool:
    accuracy = entry.accuracy or entry.other_accuracy
    return accuracy is not None and units.is_fraction(accuracy.metric)


def _has_own_unit(entry: Entry) -> bool:
    accuracy = entry.accuracy or entry.other_accuracy
    return accuracy is not None and has_own_unit(accuracy.metric)


def figure_of(entry: Entry, figure: str) -> tuple[float | None, Interval | None]:
    """Return an entry's figure in base units, with its 95 % interval where it has one."""
    result, accuracy = entry.result, entry.accuracy or entry.other_accuracy
    if figure in _PERCENTILES:
        found = entry.percentile(float(figure[1:])) if entry.single_stream or result is None else None
        return (found.value_ns, found.ci95_ns) if found else (None, None)
    if figure == "drop":
        # 0.99 less 0.98 is 0.01, though computed it is a little more.
        return (round(accuracy.drop, 12), accuracy.ci95) if accuracy else (None, None)
    simple: Mapping[str, tuple[float | None, Interval | None]] = {
        "throughput": (result.samples_per_second, result.samples_per_second_ci95) if result else (None, None),
        "speedup": (entry.speedup, entry.speedup_ci95),
        "accuracy": (accuracy.value if accuracy and accuracy.truth == "labels" else None, None),
        "agreement": (entry.agreement, entry.agreement_ci95),
        "sqnr": (entry.sqnr_db, None),
        "size": (entry.ranked_bytes, None),
        "memory": (result.memory_peak_bytes if result else None, None),
        "energy": (result.energy_uj if result else None, None),
        "cv": (result.coefficient_of_variation if result else None, None),
    }
    return simple[figure]


def _worded(figure: str, value: float, interval: Interval | None, *, own: bool = False) -> str:
    if figure in _PERCENTILES:
        scale = units.scale_for([value], units.TIMES)
        text = f"{figure} is {scale.show(value)} {scale.unit}"
        return text + (f" ({scale.interval(interval)})" if interval else "")
    if figure in ("drop", "accuracy") and own:
        text = f"{figure} is {units.digits(value, 4)}"
        return text + (f" ({units.digits(interval[0], 4)} to {units.digits(interval[1], 4)})" if interval else "")
    if figure in ("drop", "accuracy", "agreement"):
        unit = "points" if figure == "drop" else "%"
        text = f"{figure} is {100 * value:.2f} {unit}"
        return text + (f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else "")
    scales = {"size": units.SIZES, "memory": units.SIZES, "energy": units.ENERGIES}.get(figure)
    return f"{figure} is {units.quantity(value, scales) if scales else units.digits(value)}"
