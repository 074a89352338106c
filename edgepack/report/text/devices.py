"""One sentence a device, for the reader without time: how much faster and smaller a precision is, and what it loses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgepack.base.text import shortened
from edgepack.report import units
from edgepack.report.entries import Entry, short_cpu
from edgepack.report.entries.choice import Kind, latency_of, quality_kind
from edgepack.report.entries.gain import Gain, bases_of, gain_of, smaller
from edgepack.report.entries.places import places
from edgepack.report.entries.profile import profile_of
from edgepack.report.text.bounds import bound_of
from edgepack.report.text.changes import changed_text
from edgepack.specs.run import Accuracy
from edgepack.specs.target import Target

_MOST_LAYERS = 3
_LONGEST_REASON = 160
_ALIKE = 1.05  # sizes that are nearer are as large: "1.0 times smaller" says nothing
_BOUND = {
    "precision": "runs in another precision than was asked for",
    "overhead": "is bound neither by arithmetic nor by memory, so that fewer bits gain nothing",
    "memory": "is bound by memory",
    "compute": "is bound by arithmetic",
}


@dataclass(frozen=True)
class Device:
    """What is known of one device: its name, a sentence, whether it was measured, and what its best entry gains.

    ``of_class`` is what it takes and costs by its profile; empty where that does not know.
    """

    name: str
    text: str
    measured: bool
    gain: Gain | None
    of_class: str = ""


def devices(entries: Sequence[Entry]) -> tuple[Device, ...]:
    """Return the devices in the order of the entries, those that were measured first.

    A target that was measured on several machines is a device on each. Of entries of one device and precision that
    differ in other circumstances the fastest that counts is told.
    """
    kind = quality_kind(entries)
    found_at: dict[tuple[str, str], list[int]] = {}
    cpus = places(entries)
    measured_on: dict[str, set[str]] = {}
    for entry, cpu in zip(entries, cpus, strict=True):
        measured_on.setdefault(entry.target, set()).update({cpu} - {""})
    for i, (entry, cpu) in enumerate(zip(entries, cpus, strict=True)):
        if not cpu and measured_on[entry.target] and entry.status == "ok":
            continue
        found_at.setdefault((entry.target, cpu if len(measured_on[entry.target]) > 1 else ""), []).append(i)
    bases = bases_of(entries)
    found = [_device(target, cpu, indices, entries, bases, kind) for (target, cpu), indices in found_at.items()]
    return tuple(sorted(found, key=lambda device: not device.measured))


def standing(entries: Sequence[Entry]) -> str:
    """Return which devices were measured and which were not, where there are both; it is said before all else."""
    targets = dict.fromkeys(e.target for e in entries if e.status in ("ok", "poor"))
    found = {e.target for e in entries if latency_of(e) is not None or _streamed(e)}
    measured = [target for target in targets if target in found]
    missing = [target for target in targets if target not in found]
    if not missing or not measured:
        return ""
    number = f"{len(measured)} of {len(targets)} devices {'was' if len(measured) == 1 else 'were'} measured"
    return f"{number}: {_few(measured)}. Nothing is known of the speed of {_few(missing)}."


def how_to_measure(entries: Sequence[Entry]) -> str:
    """Return how the devices that were built for are measured; empty where all of them were."""
    built = [e for e in entries if e.status in ("ok", "poor")]
    if not built or not any(latency_of(e) is None and not _streamed(e) for e in built):
        return ""
    return "edgepack benchmark BUNDLE --out result.json"


def why_not_faster(entry: Entry) -> str:
    """Return by layers why an entry is not faster than its fp32; empty where its layers were not measured."""
    limit = entry.result.limit if entry.result is not None else None
    if limit is None or not limit.profiled_ns:
        return ""
    for bound in ("precision", "overhead", "memory"):
        layers = sorted((x for x in limit.layers if x.bound == bound), key=lambda x: -x.time_ns)
        share = sum(x.time_ns for x in layers) / limit.profiled_ns
        if share >= 0.2:
            names = ", ".join(x.name for x in layers[:_MOST_LAYERS])
            more = " and others" if len(layers) > _MOST_LAYERS else ""
            return f"{units.percent(share, 0)} % of its time {_BOUND[bound]} ({names}{more})"
    return ""


def _streamed(entry: Entry) -> bool:
    """Say whether throughput was measured and no latency of single samples."""
    return entry.result is not None and not entry.single_stream


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def _device(
    target: str,
    cpu: str,
    indices: Sequence[int],
    entries: Sequence[Entry],
    bases: Sequence[int | None],
    kind: Kind,
) -> Device:
    chosen = _one_each(indices, entries)
    texts = list(_sentences(chosen, entries, bases, kind))
    gains = [gain_of(entries[i]) for i in chosen.values()]
    measured = any(latency_of(entries[i]) is not None or _streamed(entries[i]) for i in indices)
    name = f"{target} on {short_cpu(cpu)}" if cpu else target
    first = next((gain for gain in gains if gain), None)
    return Device(name, " ".join(texts), measured, first, class_of(target))


def class_of(target: str) -> str:
    """Return power class, memory and list price of a target's shipped profile, as far as that knows."""
    profile = profile_of(target)
    return ", ".join(_classes(profile)) if profile is not None else ""


def _classes(profile: Target) -> Iterator[str]:
    if profile.power.tdp_w is not None:
        yield f"power class {profile.power.tdp_w:g} W"
    if profile.limits.memory_bytes is not None:
        yield f"{units.quantity(profile.limits.memory_bytes, units.SIZES)} of memory"
    price = profile.price
    if price.usd is not None:
        of = f" for {price.what}" if price.what else ""
        yield f"{price.usd:g} US dollars{of} in {price.date}"


def _one_each(indices: Sequence[int], entries: Sequence[Entry]) -> dict[str, int]:
    """Return the entry to tell of for each precision, the fastest one that counts; fp32 last."""
    found: dict[str, int] = {}
    for i in indices:
        best = found.get(entries[i].precision)
        if best is None or _order(entries[i]) < _order(entries[best]):
            found[entries[i].precision] = i
    return dict(sorted(found.items(), key=lambda item: item[0] == "fp32"))


def _order(entry: Entry) -> tuple[bool, bool, bool, int]:
    latency = latency_of(entry)
    return entry.status != "ok", latency is None, entry.disturbed, latency[0] if latency else 0


def _sentences(
    chosen: dict[str, int], entries: Sequence[Entry], bases: Sequence[int | None], kind: Kind
) -> Iterator[str]:
    others = [i for precision, i in chosen.items() if precision != "fp32"]
    for i in others or chosen.values():
        entry, base = entries[i], bases[i]
        if entry.status == "skipped":
            yield f"It does not offer {entry.precision}."
        elif entry.status in ("failed", "gate_missed"):
            yield f"{entry.precision} {_ENDED[entry.status]}: {_shortened(entry.reason)}."
        elif base is None:
            yield f"{entry.precision}: {_alone(entry, kind)}."
        else:
            yield _compared(entry, entries[base], kind)


_ENDED = {"failed": "failed", "gate_missed": "missed its gate"}


def _shortened(reason: str | None) -> str:
    text = (reason or "no reason was given").split(" (")[0].rstrip(".")
    return shortened(text, _LONGEST_REASON)


def _compared(entry: Entry, base: Entry, kind: Kind) -> str:
    """Return the sentence "int8 is 2.6 times faster and 3.4 times smaller than fp32, and loses ..."."""
    speed, size, loss = _speed(entry), _size(entry, base), loss_of(entry, kind)
    if speed and size and gain_of(entry) == "same":  # 'not faster and smaller' would deny both
        is_text = f"{size} than fp32 but {speed}"
    else:
        is_text = " and ".join(part for part in (speed, size) if part)
        is_text += " than fp32" if is_text else ""
    text = f"{entry.precision} is {is_text}" if is_text else f"{entry.precision}"
    text = f"{text}{', and ' if is_text else ' '}{loss}." if loss else f"{text}; what it loses was not measured."
    text += f" {changed_text(entry.row.changes)}." if entry.row is not None and entry.row.changes is not None else ""
    if speed is None:
        text += f" {_unmeasured(entry)}" if entry.status == "ok" else ""
    if entry.status == "poor":
        return f"{text} It is poor, so take fp32 there."
    if gain_of(entry) in ("same", "slower"):
        why = why_not_faster(entry)
        return f"{text} Take fp32 there{', unless size matters more' if _is_smaller(entry, base) else ''}" + (
            f": {why}." if why else "."
        )
    return text


def _is_smaller(entry: Entry, base: Entry) -> bool:
    return (smaller(entry, base) or 0.0) > _ALIKE


def _speed(entry: Entry) -> str | None:
    gain = gain_of(entry)
    if gain is None or entry.speedup is None:
        return None
    ends = entry.speedup_ci95
    shown = f" ({units.between(units.digits(ends[0]), units.digits(ends[1]))})" if ends else ""
    if gain == "faster":
        return f"{units.digits(entry.speedup)} times faster{shown}"
    if gain == "slower":
        inverse = f" ({units.between(units.digits(1 / ends[1]), units.digits(1 / ends[0]))})" if ends else ""
        return f"{units.digits(1 / entry.speedup)} times slower{inverse}"
    return f"not measurably faster ({units.digits(entry.speedup)} times{', ' + shown[2:-1] if ends else ''})"


def _size(entry: Entry, base: Entry) -> str | None:
    ratio = smaller(entry, base)
    if ratio is None or 1 / _ALIKE < ratio < _ALIKE:
        return None
    return f"{units.digits(ratio, 2)} times smaller" if ratio > 1 else f"{units.digits(1 / ratio, 2)} times larger"


def loss_of(entry: Entry, kind: Kind) -> str:
    """Return what an entry loses against fp32, as a verb; empty where nothing is known."""
    accuracy = entry.accuracy or entry.other_accuracy
    if accuracy is not None:
        return _loss(accuracy)
    if kind == "agreement" and entry.agreement is not None:
        of = f" of {units.count(entry.n)} samples" if entry.n else ""
        return f"answers as fp32 does on {units.percent(entry.agreement)} %{of}"
    if entry.sqnr_db is not None:
        return f"is {units.digits(entry.sqnr_db)} dB (SQNR) close to it"
    return ""


def _loss(found: Accuracy) -> str:
    fraction = units.is_fraction(found.metric)
    low, high = sorted((100 if fraction else 1) * end for end in found.ci95)
    title = units.accuracy_title(found)
    if low <= 0 <= high:
        shown = f"{units.signed(low)} to {units.signed(high)}"
        return f"loses no {title} that {units.count(found.n)} samples show (a drop of {shown}{_points(fraction)})"
    drop = 100 * found.drop if fraction else found.drop
    ends = sorted((abs(low), abs(high)))
    amounts = [f"{value:.2f}" if fraction else units.digits(value) for value in (abs(drop), *ends)]
    verb = "loses" if found.drop > 0 else "gains"
    return f"{verb} {amounts[0]}{_points(fraction)} of {title} ({units.between(*amounts[1:])})"


def _points(fraction: bool) -> str:
    return " points" if fraction else ""


def _alone(entry: Entry, kind: Kind) -> str:
    """Return what is known of an entry that nothing is compared with."""
    latency, parts = latency_of(entry), []
    if latency is not None:
        parts.append(f"p{entry.ranked_by:g} {units.quantity(latency[0], units.TIMES)}")
    elif _streamed(entry) and entry.result is not None:
        parts.append(f"{units.digits(entry.result.samples_per_second)} samples a second")
    if entry.ranked_bytes is not None:
        parts.append(units.quantity(entry.ranked_bytes, units.SIZES))
    if entry.precision != "fp32":
        parts.append(loss_of(entry, kind) or "what it loses was not measured")
    text = ", ".join(parts) or "built"
    return f"{text}. {_unmeasured(entry)}".rstrip(". ")  # the sentence's end is the caller's


def _unmeasured(entry: Entry) -> str:
    if latency_of(entry) is not None or _streamed(entry):
        return ""
    bound = bound_of(entry)
    return f"Its speed was not measured; it needs {bound.text}." if bound else "Its speed was not measured."
