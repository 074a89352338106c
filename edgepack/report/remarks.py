"""What was not measured and why, what disturbs a measurement, and how to make each row again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from edgepack.report import units
from edgepack.report.entries import Entry, labels
from edgepack.specs import Host

_TITLES = {"sqnr_db": "SQNR", "speedup_over_fp32": "Speed-up over fp32", "p90": "p90", "isa": "Instruction set"}


@dataclass(frozen=True)
class Remark:
    """One text and the entries that it is about; ``all`` when it is about every one."""

    text: str
    about: tuple[str, ...]
    all: bool


def not_measured(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return what is missing with the reason, each said once."""
    return _collected(entries, _missing)


def failures(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return why entries failed or missed their gate."""
    return _collected(entries, lambda e: [e.reason or "no reason was given"] if e.status != "ok" else [])


def disturbances(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return why measurements do not count."""
    return _collected(entries, lambda e: list(e.result.invalid_reasons) if e.result else [])


def circumstances(entries: Sequence[Entry]) -> tuple[Remark, ...]:
    """Return what a reader should know of measurements that count."""
    return _collected(entries, lambda e: list(e.result.notes) if e.result else [])


def _collected(entries: Sequence[Entry], texts_of: object) -> tuple[Remark, ...]:
    about: dict[str, list[str]] = {}
    for entry, name in zip(entries, labels(entries), strict=True):
        for text in dict.fromkeys(texts_of(entry)):  # type: ignore[operator]
            about.setdefault(text, []).append(name)
    return tuple(Remark(text, tuple(names), len(names) == len(entries)) for text, names in about.items())


def _missing(entry: Entry) -> list[str]:
    if entry.status == "failed":
        return []
    found = []
    notes = dict(entry.row.notes) if entry.row else {}
    if entry.accuracy is None:
        reason = notes.pop("accuracy", None) or _why_no_accuracy(entry)
        found.append(f"Accuracy: {reason}")
    if not entry.measured and entry.single_stream:
        found.append(f"Latency: {notes.pop('latency', 'not measured')}")
    if entry.result is not None and entry.result.energy_uj is None:
        found.append(f"Energy: {entry.result.energy_source}")
    if entry.result is not None and entry.result.memory_peak_bytes is None:
        found.append("Memory: the system does not tell a process's peak")
    notes = {k: v for k, v in notes.items() if not (k == "latency" and entry.disturbed)}
    return found + [f"{_TITLES.get(what) or what.capitalize()}: {why}" for what, why in notes.items()]


def _why_no_accuracy(entry: Entry) -> str:
    if entry.other_accuracy is not None:
        metric = units.metric_title(entry.other_accuracy.metric)
        return f"measured by another metric ({metric}), which cannot be compared with the others"
    note = entry.result.accuracy.note if entry.result and entry.result.accuracy else None
    return note or "not measured: no labels were given"


# --- provenance -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Provenance:
    """Where one entry's figures are from: pairs of (what, value), and the commands that make them again."""

    label: str
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


def provenances(entries: Sequence[Entry], hosts: Mapping[Host, str]) -> tuple[Provenance, ...]:
    """Return the provenance of each entry; ``hosts`` maps hosts to the names under which the page describes them."""
    return tuple(
        Provenance(name, tuple(_facts(entry, hosts)), tuple(_commands(entry)))
        for entry, name in zip(entries, labels(entries), strict=True)
    )


def _facts(entry: Entry, hosts: Mapping[Host, str]) -> Iterable[tuple[str, str]]:
    if entry.sha256:
        yield "Bundle sha256", entry.sha256
    if entry.accuracy:
        yield "Accuracy", f"{entry.accuracy.metric} on {units.count(entry.accuracy.n)} samples"
    result = entry.result
    if result is None:
        if entry.measured_on:
            yield "Measured on", entry.measured_on
        return
    if result.accuracy:
        isa = ", ".join(result.accuracy.isa) or "unknown instruction set"
        yield "Accuracy measured with", f"{result.accuracy.engine} ({isa})"
    yield "Engine", ", ".join([result.engine, *(f"{k} {v}" for k, v in sorted(result.versions.items()))])
    yield "Host", hosts.get(result.host) or host_text(result.host)
    threads = result.options.threads
    yield "Run options", f"{units.threads(threads)}, {result.options.hint} hint"
    scenario = result.scenario
    processes = "one process" if scenario.launches == 1 else f"{scenario.launches} fresh processes"
    yield "Scenario", f"{scenario.name}, seed {scenario.seed}, {processes}"
    warm = "stable" if result.warmup_stable else "not stable"
    yield (
        "Queries",
        f"{units.count(result.queries)} in {units.quantity(result.duration_ns, units.TIMES)}, after "
        f"{units.count(result.warmup_queries)} of warm-up ({warm})",
    )
    if result.coefficient_of_variation is not None:
        yield "Coefficient of variation", units.digits(result.coefficient_of_variation, 2)
    if result.memory is not None:
        yield "Memory", _memory(entry)
    if result.measured_at:
        yield "Measured at", result.measured_at


def _memory(entry: Entry) -> str:
    assert entry.result is not None
    assert entry.result.memory is not None
    memory = entry.result.memory
    loaded = units.quantity(memory.load_bytes - memory.before_bytes, units.SIZES)
    text = f"{loaded} added by loading, {units.quantity(memory.infer_bytes, units.SIZES)} resident after inference"
    return f"{text}, of which {units.quantity(memory.before_bytes, units.SIZES)} Python itself"


def host_text(host: Host) -> str:
    """Return a host in one line."""
    parts = [
        host.cpu,
        f"{host.cores} cores",
        units.quantity(host.memory_bytes, units.SIZES),
        f"{host.os} {host.kernel}",
    ]
    parts += [f"GPU {host.gpu}"] if host.gpu else []
    parts += [host.power_mode] if host.power_mode else []
    return ", ".join(parts)


def _commands(entry: Entry) -> Iterable[str]:
    bundle = _bundle_name(entry)
    if bundle is None:
        return
    yield f"edgepack verify {bundle}"
    result = entry.result
    if result is None:
        yield f"edgepack benchmark {bundle}"
        return
    scenario = result.scenario
    words = [
        "edgepack",
        "benchmark",
        bundle,
        "--scenario",
        scenario.name,
        "--duration",
        units.duration(scenario.duration_ns),
    ]
    words += ["--warmup", units.duration(scenario.warmup_ns), "--seed", str(scenario.seed)]
    words += ["--batch", str(scenario.batch)] if scenario.batch != 1 else []
    words += ["--threads", str(result.options.threads)] if result.options.threads is not None else []
    yield " ".join(words)


def _bundle_name(entry: Entry) -> str | None:
    """Return the file's name quoted for a shell; a name from a document may hold anything."""
    if entry.row is not None and entry.row.bundle:
        return shlex.quote(PurePath(entry.row.bundle).name)
    if entry.result is not None:
        return shlex.quote(f"{entry.result.bundle_name}-{entry.target}-{entry.precision}.edgepack")
    return None
