"""Targets: the profiles that come with edgepack, those in TOML files, and ``host-ENGINE``, made of the host's facts."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from edgepack.base import documents, resources
from edgepack.device import host
from edgepack.device.host import ROOT
from edgepack.device.profiles import HOST_PREFIX, check_choice, check_pattern, check_target, read_profile
from edgepack.engines import ENGINES, part_of
from edgepack.engines.target_names import ALIASES, ALL, expanded, target_id
from edgepack.errors import ConfigError, ToolchainError
from edgepack.specs.model import Diagnostic
from edgepack.specs.target import Compute, EngineFacts, Host, QuantizationRules, Target
from edgepack.specs.types import Precision

_LOG = logging.getLogger("edgepack")
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}")


def list_targets() -> tuple[Target, ...]:
    """Return the profiles of this host, then those that come with edgepack, each sorted by id."""
    names = sorted(path.stem for path in resources.targets_folder().glob("*.toml"))
    return (*host_targets(), *(load_target(name) for name in names))


def load_target(name_or_path: str) -> Target:
    """Return the profile of that id, of this host (``host-ENGINE``), or in that TOML file.

    Raises ``ConfigError`` that names the file, the key and what to write there.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        return read_target(Path(name_or_path))
    shipped = {path.stem: path for path in sorted(resources.targets_folder().glob("*.toml"))}
    name_or_path = target_id(name_or_path, tuple(shipped))
    engine = name_or_path.removeprefix(HOST_PREFIX)
    if name_or_path.startswith(HOST_PREFIX) and engine in ENGINES:
        return host_target(engine, host.host_facts(), host.cache_facts())
    if name_or_path in shipped:
        return read_target(shipped[name_or_path])
    known = [*(target.id for target in host_targets()), *shipped, *ALIASES]
    if len(group := _group(name_or_path, target_ids())) > 1:
        raise ConfigError(f"{name_or_path!r} stands for several targets", hint="give one of " + ", ".join(group))
    raise ConfigError(
        f"unknown target {name_or_path!r}",
        hint=f"{_meant(name_or_path, known)} A board of your own is the path of a .toml file",
    )


def _meant(name: str, known: Sequence[str]) -> str:
    """Return which target or group an unknown name was probably to be, else what lists them."""
    if name in get_args(Precision):
        return f"that is a precision: --precision {name}."
    if "," in name:
        return "give one target, as this command takes no more."
    if re.search(r"[;|\s]", name.strip()):
        return "Several targets are separated by commas, as rpi5,host-openvino."
    near = documents.nearest(name, known)
    words = "'edgepack targets' lists all." if near is None else f"did you mean {near!r}?"
    return f"{words} '{ALL}{name}' stands for all of {name}." if name in groups_by_fact() else words


def refusal(target: Target) -> Diagnostic | None:
    """Return why the engine takes no model at all for a target, as in a version that is too old; None where it may."""
    reference = ENGINES.get(target.backend).refuses
    found: Diagnostic | None = part_of(target.backend, reference)(target) if reference else None
    return found


def target_ids() -> tuple[str, ...]:
    """Return the ids of this host's profiles and of those that come with edgepack; no profile is read."""
    shipped = sorted(path.stem for path in resources.targets_folder().glob("*.toml"))
    return (*(target.id for target in host_targets()), *shipped)


def known_names() -> tuple[str, ...]:
    """Return every name that stands for one target: ids, then other names."""
    return (*target_ids(), *ALIASES)


def expand_targets(names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids that names stand for, in order: of another name its id, of a group all of them.

    A group is the beginning of several ids, or ``all-`` and what they have in common, without those for which no model
    can be built. What a group holds that is named anyway, or is in a group before it, is there once. Of a file its path
    is returned, and an unknown name as it is.
    """
    ids = target_ids()
    groups = [_group(name, ids) for name in names]
    named = {group[0] for group in groups if len(group) == 1}
    found: list[str] = []
    for group in groups:
        if len(group) == 1:
            found += group
        else:
            found += [name for name in group if name not in {*named, *found} and refusal(load_target(name)) is None]
    return tuple(found)


def _group(name: str, ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids that a name stands for; ``all-aarch64`` and the like need the facts of the profiles."""
    what = name.removeprefix(ALL)
    if what == name or what.endswith(".toml") or "/" in what:
        return expanded(name, ids)
    if len(group := expanded(what, ids)) > 1:
        return group
    known = groups_by_fact()
    if what not in known:
        choices = [f"{ALL}{word}" for word in (*known, *_beginnings(ids))]
        raise ConfigError(f"there is no group of targets {name!r}", hint=documents.suggestion(name, choices))
    return known[what]


def groups_by_fact() -> dict[str, tuple[str, ...]]:
    """Return the shipped profiles by processor and by engine; this host's would differ from host to host."""
    shipped = [load_target(path.stem) for path in sorted(resources.targets_folder().glob("*.toml"))]
    words = sorted({target.arch for target in shipped}) + sorted({target.backend for target in shipped})
    return {word: tuple(t.id for t in shipped if word in (t.arch, t.backend)) for word in words}


def _beginnings(ids: Sequence[str]) -> list[str]:
    """Return the first words of ids that several have."""
    first = [name.partition("-")[0] for name in ids]
    return sorted({word for word in first if first.count(word) > 1})


def read_target(path: Path) -> Target:
    """Return the checked profile in a TOML file. Raises ``ConfigError``."""
    data = read_profile(path)
    backend, rules = data.get("backend"), data.get("quantization", {})
    if isinstance(backend, str) and isinstance(rules, dict):
        check_choice(backend, ENGINES.names(), f"{path}: backend")
        defaults = ENGINES.get(backend).defaults
        data["quantization"] = {"engine": backend, **defaults.get("quantization", {}), **rules}
        if isinstance(data.get("engine", {}), dict):
            data["engine"] = {**defaults.get("engine", {}), **data.get("engine", {})}
    target: Target = documents.decode(Target, data, str(path))
    check_target(target, str(path))
    if check := ENGINES.get(target.backend).check_profile:
        part_of(target.backend, check)(target, str(path))
    return target


def host_targets(machine: Host | None = None) -> tuple[Target, ...]:
    """Return one profile for each engine that computes on this machine, from its facts; no engine is imported."""
    caches = host.cache_facts() if machine is None else {}
    machine = machine or host.host_facts()
    found = []
    for name, engine in ENGINES.all():
        try:
            found.append(host_target(name, machine, caches))
        except ConfigError:
            if not engine.host:
                raise
        except ToolchainError as error:
            if name in ENGINES.own:
                raise
            _LOG.warning("%s", error.message)
    return tuple(found)


def host_target(name: str, machine: Host, caches: Mapping[str, int] | None = None) -> Target:
    """Return the profile of ``machine`` for the engine ``name``.

    ``caches``: what ``host.cache_facts`` says of it; few engines' code depends on them. Raises ``ConfigError`` where
    the engine does not compute on this machine.
    """
    engine = ENGINES.get(name)
    if engine.host:
        made: Target = part_of(name, engine.host)(machine)
        return made
    known = dict(caches or {}) if engine.reads_caches else {}
    saturates = host.saturates(machine)
    return Target(
        id=HOST_PREFIX + name,
        title=f"this host ({host.short_cpu_name(machine)}), {engine.title}",
        backend=name,
        arch=machine.arch,
        os=machine.os,
        engine=EngineFacts(device="CPU"),
        compute=Compute(
            isa=machine.isa,
            cores=machine.cores,
            precisions=native_precisions(name, machine),
            cpu_model=f"^{re.escape(machine.cpu)}$",
            **known,  # type: ignore[arg-type]
        ),
        quantization=QuantizationRules(saturates=saturates, engine=name),
        sources={
            "compute.isa": "/proc/cpuinfo of this host",
            "compute.cores": "affinity and control group of this process",
            "compute.precisions": f"what {engine.title} has CPU kernels for, by the instruction set",
            "compute.cpu_model": "/proc/cpuinfo of this host",
            **{f"compute.{key}": "/sys/devices/system/cpu/cpu0/cache of this host" for key in known},
            "quantization.saturates": "x86 without VNNI" if saturates else "the instruction set",
        },
    )


def native_precisions(name: str, machine: Host) -> tuple[Precision, ...]:
    """Return the precisions that an engine's CPU kernels compute in on ``machine``, not counting emulation."""
    engine = ENGINES.get(name)
    if engine.precisions:
        found: tuple[Precision, ...] = part_of(name, engine.precisions)(machine)
        return found
    return ("fp32",) if engine.int8 is None else ("fp32", "int8")


def half_on_arm(machine: Host) -> tuple[Precision, ...]:
    """Return float32 and int8, and float16 on ARM with half precision, as ONNX Runtime computes (``core/mlas``)."""
    return ("fp32", "fp16", "int8") if {"fphp", "asimdhp"} <= set(machine.isa) else ("fp32", "int8")


def is_this_host(target: Target, machine: Host | None = None, root: Path = ROOT) -> bool:
    """Say whether this machine is the device that ``target`` describes, its accelerator included.

    A profile without ``cpu_model`` names no machine, so it is never this one.
    """
    machine = machine or host.host_facts(root)
    if not host.is_cpu_of(target, machine):
        return False
    return bool(part_of(target.backend, ENGINES.get(target.backend).has_device)(target, machine, root))


DEVICE_FACTS = ("arch", "os", "cpu_model")


def device_facts_of(target: Target) -> dict[str, str]:
    """Return by what a machine that does not have the profile knows whether it is the device."""
    facts = {"arch": target.arch, "os": target.os, "cpu_model": target.compute.cpu_model}
    return {f"target.{name}": value for name, value in facts.items() if value is not None}


def shipped_profile(name: str) -> Path | None:
    """Return the file of the profile that comes with edgepack under that id; no text leads to another file."""
    path = resources.targets_folder() / f"{name}.toml"
    return path if _ID.fullmatch(name) and path.is_file() else None


def is_device(name: str, machine: Host, facts: Mapping[str, str], root: Path | None = ROOT) -> bool | None:
    """Say whether ``machine`` is the device of the target ``name``, of which a bundle knows ``facts``.

    None where neither a profile that comes with edgepack nor ``facts`` tell. ``root`` None: the machine is another one
    than this, so that its accelerators are not looked for.
    """
    if name.startswith(HOST_PREFIX):
        return True if root is None else _has_engine(name.removeprefix(HOST_PREFIX), machine, root)
    path = shipped_profile(name)
    if path is None:
        return _is_described(machine, facts)
    target = read_target(path)
    return host.is_cpu_of(target, machine) if root is None else is_this_host(target, machine, root)


def _has_engine(name: str, machine: Host, root: Path) -> bool | None:
    """Say whether a machine, which is its own target, has what the engine ``name`` computes on."""
    if name not in ENGINES:
        return None
    try:
        return is_this_host(host_target(name, machine), machine, root)
    except ConfigError:
        return False


def _is_described(machine: Host, facts: Mapping[str, str]) -> bool | None:
    """Say whether a machine is what a bundle says of its device; a pattern in it is anybody's text."""
    known = {name: facts.get(f"target.{name}") for name in DEVICE_FACTS}
    pattern = known["cpu_model"]
    if known["arch"] not in (None, machine.arch) or known["os"] not in (None, machine.os):
        return False
    if pattern is None:
        return None
    try:
        check_pattern(pattern, "cpu_model")
    except ConfigError:
        return None
    return re.search(pattern, machine.cpu) is not None
