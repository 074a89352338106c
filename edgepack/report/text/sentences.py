"""The recommendation in words: which to take, by how much it wins, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.report import units
from edgepack.report.entries import Entry, labels
from edgepack.report.entries.choice import Choice, Kind, Limits, Preset, choose, presets, quality_kind
from edgepack.specs.run import Accuracy

_MOST_NAMES = 6


def recommendation(entries: Sequence[Entry], limits: Limits) -> str:
    """Return one or two sentences that answer which device and precision to take under the limits."""
    choice, names = choose(entries, limits), labels(entries)
    if choice.best is None:
        return " ".join(filter(None, (nothing_found(entries), excluded(entries, limits, choice))))
    text = f"Take {names[choice.best]}: {described(entries[choice.best], quality_kind(entries))}."
    if choice.ties:
        text += f" Its latency cannot be distinguished from that of {listed([names[i] for i in choice.ties])}."
    return " ".join(filter(None, (text, excluded(entries, limits, choice), caveat(entries))))


def excluded(entries: Sequence[Entry], limits: Limits, choice: Choice) -> str:
    """Return what the limit on quality excluded that would be taken without it; empty where nothing."""
    if choice.excluded is None:
        return ""
    kind, entry = quality_kind(entries), entries[choice.excluded]
    preset = next((p for p in presets(entries) if p.quality == limits.quality), None)
    what = f"The preset \u201c{preset_text(preset, entries)}\u201d" if preset else "The limit on quality"
    return f"{what} excludes {labels(entries)[choice.excluded]}: {described(entry, kind)}."


def preset_text(preset: Preset, entries: Sequence[Entry]) -> str:
    """Return a preset with its limit in words: "careful: at most 1 point of drop"."""
    value, kind = preset.quality, quality_kind(entries)
    if value is None:
        return preset.name
    if kind == "agreement":
        return f"{preset.name}: at least {100 * value:g} % agreement"
    if kind == "sqnr":
        return f"{preset.name}: at least {value:g} dB SQNR"
    metric = next(e.accuracy.metric for e in entries if e.accuracy)
    if not units.is_fraction(metric):
        return f"{preset.name}: a drop of at most {value:g}"
    return f"{preset.name}: at most {100 * value:g} point{'' if value == 0.01 else 's'} of drop"


def listed(names: Sequence[str]) -> str:
    """Return names joined, of many the first few and how many more there are."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"


def nothing_found(entries: Sequence[Entry]) -> str:
    """Return what to say when no entry keeps the limits."""
    if any(e.measured for e in entries):
        return "Nothing that was measured keeps these limits."
    devices = dict.fromkeys(e.target for e in entries if e.status not in ("failed", "skipped"))
    if not devices:
        return "Nothing was built, so none can be recommended."
    which = f"None of the {len(devices)} devices" if len(devices) > 1 else f"The device {next(iter(devices))}"
    verb = "was" if len(devices) > 1 else "was not"
    if any(e.elsewhere for e in entries):
        return f"{which} {verb} measured, its bundles only on other machines, so none can be recommended."
    return f"{which} {verb} measured, so none can be recommended."


def among(candidates: int) -> str:
    """Return from how many the best was chosen."""
    if candidates == 1:
        return "The only measured one that keeps your limits."
    return f"The fastest of {candidates} measured ones that keep your limits."


def caveat(entries: Sequence[Entry]) -> str:
    """Return what limits every choice among these entries: that accuracy was not measured."""
    if quality_kind(entries) in ("accuracy", "none"):
        return ""
    return "Accuracy was not measured: no labels."


def described(entry: Entry, kind: Kind) -> str:
    """Return an entry's figures in words."""
    parts = [*_latency(entry), *_speedup(entry), *_quality(entry, kind)]
    if entry.ranked_bytes is not None:
        parts.append(
            ("model " if entry.model_bytes is not None else "") + units.quantity(entry.ranked_bytes, units.SIZES)
        )
    if entry.disturbed:
        parts.append("measured on a disturbed machine")
    return ", ".join(parts)


def _latency(entry: Entry) -> list[str]:
    by = entry.ranked_by if entry.percentile(entry.ranked_by) else 50.0
    name, found = f"p{by:g}", entry.percentile(by)
    if found is None or found.value_ns is None:
        return []
    scale = units.scale_for([found.value_ns], units.TIMES)
    interval = f" ({scale.interval(found.ci95_ns)})" if found.ci95_ns else ""
    return [f"{name} {scale.show(found.value_ns)} {scale.unit}{interval}"]


def _speedup(entry: Entry) -> list[str]:
    if entry.speedup is None or entry.precision == "fp32":
        return []
    return [f"{units.digits(entry.speedup)} times as fast as its fp32"]


def _quality(entry: Entry, kind: Kind) -> list[str]:
    if entry.accuracy is not None:
        return [_accuracy(entry.accuracy, is_base=entry.precision == "fp32")]
    if kind == "agreement" and entry.agreement is not None and entry.precision != "fp32":
        n = f" of n = {units.count(entry.n)}" if entry.n else ""
        return [f"agrees with fp32 on {units.percent(entry.agreement)} %{n}"]
    if kind == "sqnr" and entry.sqnr_db is not None and entry.precision != "fp32":
        return [f"SQNR {units.digits(entry.sqnr_db)} dB to fp32"]
    return []


def _accuracy(found: Accuracy, *, is_base: bool) -> str:
    title = units.accuracy_title(found)
    fraction = units.is_fraction(found.metric)
    text = f"{title} {units.percent(found.value)} %" if fraction else f"{title} {units.digits(found.value, 4)}"
    if is_base:
        return text
    low, high = (units.drop(end, found.metric) for end in found.ci95)
    return f"{text}, a drop of {units.drop(found.drop, found.metric)}{' points' if fraction else ''} ({low} to {high})"
