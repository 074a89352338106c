"""The limits that a reader sets on the page, and the figures of each row that the page's script filters by."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.report import units
from edgepack.report.entries import Entry, Group, short_cpu
from edgepack.report.entries.choice import Kind, Limits, latency_of, presets, quality_kind, quality_of
from edgepack.report.entries.gain import differing_bases, replacements
from edgepack.report.figures.plots import MOST_CURVES
from edgepack.report.text.sentences import caveat, described, nothing_found, preset_text
from edgepack.report.text.table import size_title

CURVE_POINTS = 51  # of a latency distribution drawn by the script; quantiles in steps of 2 %
_CURVE_STEP = 1000.0  # a step of the packed curves is a thousandth of the natural logarithm: 0.1 %


@dataclass(frozen=True)
class Field:
    """A limit that the reader may set; ``factor`` turns what is typed into the unit of the page's data.

    ``low`` and ``high`` are the least and the greatest of the rows in the shown unit: the ends of the slider, which is
    left out where they are the same.
    """

    key: str
    title: str
    unit: str
    factor: float
    value: str
    least: bool
    low: str
    high: str


@dataclass(frozen=True)
class Preference:
    """What may be asked for first: ``word`` finishes the sentence "the ... of 5 measured ones"."""

    key: str
    title: str
    word: str
    what: str


@dataclass(frozen=True)
class Offered:
    """A preset of the limit on quality as the page offers it: in words, and what it puts into the field."""

    text: str
    value: str


_PREFERENCES = (
    Preference("latency", "the fastest", "fastest", "latency"),
    Preference("quality", "the most accurate", "most accurate", "accuracy"),
    Preference("energy", "the least energy", "one with the least energy", "energy"),
    Preference("memory", "the least memory", "one with the least memory", "peak memory"),
    Preference("size", "the smallest", "smallest", "size"),
)


def make_fields(entries: Sequence[Entry], limits: Limits) -> tuple[Field, ...]:
    """Return the limits that can be set: those whose quantity was measured for some entry."""
    latencies = [found[0] for e in entries if (found := latency_of(e))]
    sizes = [e.ranked_bytes for e in entries if e.ranked_bytes]
    memory = [e.result.memory_peak_bytes for e in entries if e.result and e.result.memory_peak_bytes]
    energy = [e.result.energy_uj for e in entries if e.result and e.result.energy_uj]
    ranked_by = entries[0].ranked_by if entries else 90.0
    fields = [
        _field("latency", f"Latency, p{ranked_by:g}", latencies, units.TIMES),
        _quality_field(entries, limits),
        _field("size", size_title(entries), sizes, units.SIZES),
        _field("memory", "Peak memory", memory, units.SIZES),
        _field("energy", "Energy", energy, units.ENERGIES),
    ]
    return tuple(f for f in fields if f is not None)


def preferences(fields: Sequence[Field]) -> tuple[Preference, ...]:
    """Return what a reader may prefer: the quantities that have a field."""
    known = {field.key: field for field in fields}
    found = [p for p in _PREFERENCES if p.key in known and known[p.key].low != known[p.key].high]
    quality = known.get("quality")
    if quality is not None and "drop" not in quality.title.lower():
        close = Preference("quality", "the closest to fp32", "closest to fp32", "closeness to fp32")
        found = [close if p.key == "quality" else p for p in found]
    return tuple(found)


def offered_presets(entries: Sequence[Entry], fields: Sequence[Field]) -> tuple[Offered, ...]:
    """Return the presets that the page offers, the one that it opens with first."""
    factor = next((field.factor for field in fields if field.key == "quality"), None)
    if factor is None:
        return ()
    return tuple(
        Offered(preset_text(p, entries), "" if p.quality is None else f"{p.quality / factor:g}")
        for p in presets(entries)
    )


def _field(key: str, title: str, values: Sequence[int], scales: tuple[units.Scale, ...]) -> Field | None:
    if not values:
        return None
    scale = units.scale_for(values, scales)
    low, high = _ends([v / scale.factor for v in values])
    return Field(key, title, scale.unit, scale.factor, "", least=False, low=low, high=high)


def _quality_field(entries: Sequence[Entry], limits: Limits) -> Field | None:
    kind = quality_kind(entries)
    if kind == "none":
        return None
    known = [value for e in entries if e.status == "ok" and (value := quality_of(e, kind)) is not None]
    if kind == "sqnr":
        low, high = _ends([v for v in known if v < 1000.0] or [0.0])
        return Field("quality", "SQNR to fp32", "dB", 1.0, _shown(limits, 1.0), least=True, low=low, high=high)
    percent = _shown(limits, 0.01)
    if kind == "agreement":
        low, high = _ends([100 * v for v in known])
        return Field("quality", "Agreement with fp32", "%", 0.01, percent, least=True, low=low, high=high)
    metric = next(e.accuracy.metric for e in entries if e.accuracy)
    if not units.is_fraction(metric):
        low, high = _ends(known)
        return Field("quality", "Drop", "", 1.0, _shown(limits, 1.0), least=False, low=low, high=high)
    low, high = _ends([100 * v for v in known])
    return Field("quality", "Accuracy drop", "points", 0.01, percent, least=False, low=low, high=high)


def _shown(limits: Limits, factor: float) -> str:
    return "" if limits.quality is None else f"{limits.quality / factor:g}"


def _ends(values: Sequence[float]) -> tuple[str, str]:
    """Return the ends rounded outwards to three digits, as plain numbers: no row is beyond the slider."""
    if len(set(values)) < 2:
        only = f"{values[0]:.3g}" if values else "0"
        return only, only
    return _rounded(min(values), math.floor), _rounded(max(values), math.ceil)


def _rounded(value: float, towards: Any) -> str:
    if value == 0 or not math.isfinite(value):
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value)) + 1e-12) - 2)
    return f"{towards(value / step - (1e-9 if towards is math.ceil else -1e-9)) * step:.10g}"


# --- what the script knows of each row --------------------------------------------------------------------------------


def make_data(group: Group, names: Sequence[str], fields: Sequence[Field]) -> str:
    """Return what the script needs, as JSON that cannot end the element it stands in."""
    entries, kind = group.entries, quality_kind(group.entries)
    curves = sum(1 for e in entries if _has_curve(e)) > MOST_CURVES
    data = [_datum(e, name, kind, curves=curves) for e, name in zip(entries, names, strict=True)]
    for datum, instead, differs in zip(data, replacements(entries), differing_bases(entries), strict=True):
        if instead is not None:
            datum["instead"] = instead
        if differs is not None:
            datum["differs"] = differs
    value = {
        "entries": data,
        "least": [f.key for f in fields if f.least],
        "nothing": nothing_found(entries),
        "caveat": caveat(entries),
        "words": {p.key: [p.word, p.what] for p in preferences(fields)},
    }
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _datum(entry: Entry, name: str, kind: Kind, *, curves: bool) -> dict[str, Any]:
    """Return an entry's figures; a triple is a value and its interval. What is not known is left out."""
    latency, result = latency_of(entry), entry.result
    quality = quality_of(entry, kind)
    found = {
        "name": name,
        "find": _searched(entry),
        "latency": latency,
        "quality": [_short(v) for v in (quality, *_quality_ends(entry, kind, quality))]
        if quality is not None
        else None,
        "size": [entry.ranked_bytes] * 3 if entry.ranked_bytes is not None else None,
        "memory": [result.memory_peak_bytes] * 3 if result and result.memory_peak_bytes else None,
        "energy": [result.energy_uj] * 3 if result and result.energy_uj else None,
        "speedup": [_short(v) for v in (entry.speedup, *(entry.speedup_ci95 or ()))] if entry.speedup else None,
        "failed": entry.status != "ok" or None,
        "good": (entry.status == "ok" and latency is not None) or None,
        "disturbed": entry.disturbed or None,
        "told": described(entry, kind) if entry.status == "ok" and latency is not None else None,
        "curve": _packed(result.distribution_ns) if curves and result and _has_curve(entry) else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _searched(entry: Entry) -> str:
    """Return what a row can be found by besides its name, in small letters."""
    words = []
    if entry.result is not None:
        words = [short_cpu(entry.result.host.cpu), entry.result.engine, entry.result.host.arch]
    return " ".join(words).lower()


def _quality_ends(entry: Entry, kind: Kind, value: float) -> tuple[float, float]:
    if kind == "accuracy" and entry.accuracy is not None and entry.precision != "fp32":
        return entry.accuracy.ci95
    if kind == "agreement" and entry.agreement_ci95 is not None and entry.precision != "fp32":
        return entry.agreement_ci95
    return value, value


def _short(value: float) -> float:
    return float(f"{value:.7g}")


def _has_curve(entry: Entry) -> bool:
    return entry.result is not None and len(entry.result.distribution_ns) > 1 and latency_of(entry) is not None


def _packed(values: Sequence[int]) -> str:
    """Return a distribution as text: logarithms of evenly spaced quantiles, the first whole, the others as steps."""
    chosen = [values[i] for i in _spread(len(values) - 1)] if len(values) > CURVE_POINTS else values
    steps = [round(_CURVE_STEP * math.log(v)) if v > 1 else 0 for v in chosen]
    return " ".join([str(b - a) for a, b in zip([0, *steps], steps, strict=False)])


@functools.cache
def _spread(last: int) -> tuple[int, ...]:
    """Return evenly spaced places from 0 to ``last``."""
    return tuple(round(k * last / (CURVE_POINTS - 1)) for k in range(CURVE_POINTS))
