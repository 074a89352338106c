"""Where each row of the report is from, and the commands that make it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from edgepack.base.run_options import command_words
from edgepack.benchmark.tune.space import describe_changes
from edgepack.engines import ENGINES
from edgepack.report import units
from edgepack.report.entries import Entry, labels
from edgepack.report.entries.profile import is_elsewhere, profile_of
from edgepack.report.entries.quality import short_isa
from edgepack.report.text.bounds import bound_of
from edgepack.report.text.devices import class_of
from edgepack.report.text.remarks import missing
from edgepack.specs.result import Limit, Memory, Result, Scenario, Steady, Tuned
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host

_POWERS = (units.Scale("µW", 1), units.Scale("mW", 1e3), units.Scale("W", 1e6))


@dataclass(frozen=True)
class Provenance:
    """Where one entry's figures are from: pairs of (what, value), and the commands that make them again.

    ``there`` are commands for the device itself, where it was not measured.
    """

    label: str
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    there: tuple[str, ...] = ()


def provenances(entries: Sequence[Entry], hosts: Mapping[Host, str]) -> tuple[Provenance, ...]:
    """Return the provenance of each entry; ``hosts`` maps hosts to the names under which the page describes them."""
    return tuple(
        Provenance(name, tuple(_facts(entry, hosts)), tuple(_commands(entry)), tuple(_commands_there(entry)))
        for entry, name in zip(entries, labels(entries), strict=True)
    )


def shared_facts(found: Sequence[Provenance]) -> tuple[tuple[str, str], ...]:
    """Return the facts that are the same for every entry, to be said once; nothing for one entry alone."""
    if len(found) < 2:
        return ()
    common = set(found[0].facts).intersection(*(each.facts for each in found[1:]))
    return tuple(fact for fact in found[0].facts if fact in common)


def _facts(entry: Entry, hosts: Mapping[Host, str]) -> Iterable[tuple[str, str]]:
    yield from _state(entry)
    if entry.sha256:
        yield "Bundle sha256", entry.sha256
    yield from _device(entry)
    if entry.accuracy:
        of = "" if entry.accuracy.truth == "labels" else ", with fp32's own answers taken for right"
        yield "Accuracy", f"{entry.accuracy.metric} on {units.count(entry.accuracy.n)} samples{of}"
    if entry.sqnr_db is not None:
        yield "SQNR to fp32", f"{units.digits(entry.sqnr_db)} dB"
    if entry.result is not None:
        yield from _measurement(entry.result, hosts)
    elif entry.measured_on:
        yield "Measured on", entry.measured_on


def _device(entry: Entry) -> Iterable[tuple[str, str]]:
    """Yield what the shipped profile of the target says that a reader compares devices by."""
    profile = profile_of(entry.target)
    if profile is None:
        return
    yield "Device", ", ".join(part for part in (profile.title, profile.arch, class_of(entry.target)) if part)
    if bound := bound_of(entry):
        yield "Bound", bound.text


def _state(entry: Entry) -> Iterable[tuple[str, str]]:
    if entry.status not in ("ok", "skipped"):
        yield "Failed", entry.reason or "no reason was given"
    if entry.disturbed and entry.result:
        yield "Does not count", "; ".join(entry.result.invalid_reasons)
    if lacking := missing(entry):
        yield "Not measured", "; ".join(lacking)


def _measurement(result: Result, hosts: Mapping[Host, str]) -> Iterable[tuple[str, str]]:
    if result.accuracy:
        isa = short_isa(result.accuracy.isa)
        yield "Accuracy measured with", f"{result.accuracy.engine} ({isa})"
    yield "Engine", ", ".join([result.engine, *(f"{k} {v}" for k, v in sorted(result.versions.items()))])
    yield "Host", hosts.get(result.host) or host_text(result.host)
    yield "Run options", ", ".join(_options(result.options))
    if result.tuned is not None:
        yield "Tuned", _tuned(result.tuned)
    if result.imported is not None:
        imported = result.imported
        yield "Imported", f"{imported.tool} {imported.version}, {imported.file} (sha256 {imported.sha256})"
    scenario = result.scenario
    processes = "one process" if scenario.launches == 1 else f"{scenario.launches} fresh processes"
    yield "Samples per second", units.digits(result.samples_per_second)
    yield "Scenario", f"{scenario.name}, seed {scenario.seed}, {processes}"
    warm = "stable" if result.warmup_stable else "not stable"
    yield (
        "Queries",
        f"{units.count(result.queries)} in {units.quantity(result.duration_ns, units.TIMES)}, after "
        f"{units.count(result.warmup_queries)} of warm-up ({warm})",
    )
    if result.coefficient_of_variation is not None:
        yield "Coefficient of variation", units.digits(result.coefficient_of_variation, 2)
    if result.load_ns is not None and result.first_answer_ns is not None:
        load, first = (units.quantity(ns, units.TIMES) for ns in (result.load_ns, result.first_answer_ns))
        yield "First answer", f"{first} after the bundle is opened, {load} of it to check and load it"
    if result.limit is not None:
        yield "Layers", _layers(result.limit)
    yield from _machine(result)
    if result.measured_at:
        yield "Measured at", result.measured_at
    if result.attestation is not None:
        yield "Attested", result.attestation.verdict or "signed; its key was not looked for"


def _machine(result: Result) -> Iterable[tuple[str, str]]:
    if result.memory is not None:
        yield "Memory", _memory(result.memory)
    if result.energy_uj is not None:
        yield "Energy", _energy(result)
    if result.steady is not None:
        yield "Steady state", _steady(result.steady)


def _steady(steady: Steady) -> str:
    """Return how long it took until the machine was as warm as it stays."""
    took = units.quantity(steady.duration_ns, units.TIMES)
    words = [f"reached after {took}" if steady.reached else f"not reached within {took}"]
    if steady.temperature_before_c is not None and steady.temperature_c is not None:
        words.append(f"from {steady.temperature_before_c:.0f} to {steady.temperature_c:.0f} °C")
    return ", ".join([*words, *steady.slowed])


def _layers(limit: Limit) -> str:
    """Return in which precisions the layers ran, and how much of the time each took."""
    spent: dict[str, int] = {}
    for layer in limit.layers:
        spent[layer.executed] = spent.get(layer.executed, 0) + layer.time_ns
    counts = Counter(layer.executed for layer in limit.layers)
    total = max(sum(spent.values()), 1)
    return ", ".join(
        f"{counts[name]} in {name} ({units.percent(ns / total, 0)} % of the time)"
        for name, ns in sorted(spent.items(), key=lambda item: -item[1])
    )


def _options(options: RunOptions) -> Iterable[str]:
    """Return the run options in words; what is the engine's default is left out."""
    yield units.threads(options.threads)
    yield f"{options.hint} hint"
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value is not None and field.name not in ("threads", "hint"):
            yield describe_changes(((field.name, value),)).replace("_", " ")


def _tuned(tuned: Tuned) -> str:
    low, high = (units.digits(end) for end in tuned.ci95)
    return (
        f"for {tuned.for_scenario} at {tuned.tuned_at}, seed {tuned.seed}: {units.digits(tuned.ratio)} "
        f"({units.between(low, high)}) times the time of the engine's defaults"
    )


def _memory(memory: Memory) -> str:
    loaded = units.quantity(memory.load_bytes - memory.before_bytes, units.SIZES)
    added = units.quantity(memory.infer_bytes - memory.load_bytes, units.SIZES)
    total = units.quantity(memory.infer_bytes, units.SIZES)
    text = f"{loaded} added by loading, {added} by inference, {total} resident with it"
    text += f", of which {units.quantity(memory.before_bytes, units.SIZES)} Python itself"
    if memory.gpu_infer_bytes is not None:
        text += f"; {units.quantity(memory.gpu_infer_bytes, units.SIZES)} on the GPU"
    return text


def _energy(result: Result) -> str:
    text = f"{units.quantity(result.energy_uj, units.ENERGIES)} a sample, by {result.energy_source}"
    if result.energy_idle_uw is not None:
        text += f"; at rest the machine takes {units.quantity(result.energy_idle_uw, _POWERS)}, which is taken off"
    return text


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
    # A document may hold anything: what a reader is offered to copy can only be a build, and each word is quoted.
    if entry.row is not None and entry.row.command[:2] == ("edgepack", "build"):
        yield shlex.join(portable(word) for word in entry.row.command)
    if bundle is None or is_elsewhere(entry):
        return
    if entry.result is not None and entry.result.imported is not None:
        yield f"edgepack import {shlex.quote(portable(entry.result.imported.file))} --bundle {bundle} --out result.json"
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
    if scenario.steady_ns:
        words += ["--until-steady", units.duration(scenario.steady_ns)]
    words += ["--batch", str(scenario.batch)] if scenario.batch != 1 else []
    words += ["--launches", str(scenario.launches)] if scenario.launches != Scenario.launches else []
    if scenario.latency_bound_ns is not None:
        words += ["--latency-bound", units.duration(scenario.latency_bound_ns)]
    asked = command_words(result.options)
    words += asked or (["--untuned"] if result.tuned is None else [])
    yield " ".join(words)


def portable(word: str) -> str:
    """Return a word of a command without the folders of the machine that made it: of an absolute path its last part.

    ``/home/me/net.py:make`` is ``net.py:make``; what is relative works from the folder of the build.
    """
    if not word.startswith(("/", "~")):
        return word
    return PurePath(word).name or word


def _commands_there(entry: Entry) -> Iterable[str]:
    """Yield what measures a bundle on its device, once it was copied there; nothing where it was measured."""
    bundle, profile = _bundle_name(entry), profile_of(entry.target)
    if bundle is None or not is_elsewhere(entry) or entry.status not in ("ok", "poor"):
        return
    engine = ENGINES.get(profile.backend) if profile is not None else None
    if engine is not None:
        brought = engine.self_contained or not engine.extra
        yield "pip install edgepack" if brought else engine.install_command
    native = " --allow-native" if engine is not None and engine.self_contained else ""
    yield f"edgepack verify {bundle}{native}"
    yield f"edgepack benchmark {bundle}{native} --out {_result_name(bundle)}"


def _result_name(bundle: str) -> str:
    return shlex.quote(f"{shlex.split(bundle)[0].removesuffix('.edgepack')}.json")


def _bundle_name(entry: Entry) -> str | None:
    """Return the file's name quoted for a shell; a name from a document may hold anything."""
    if entry.row is not None and entry.row.bundle:
        return shlex.quote(PurePath(entry.row.bundle).name)
    if entry.result is not None:
        return shlex.quote(f"{entry.result.bundle_name}-{entry.target}-{entry.precision}.edgepack")
    return None
