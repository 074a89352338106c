"""Device profiles: reads and checks ``targets/<id>.toml``, and makes the profiles of this host from its own facts.

A profile is data that anyone may have written: its size is limited, every key, name and number is checked, and facts
that contradict each other are refused rather than resolved.
"""

from __future__ import annotations

import dataclasses
import re
import stat
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.base import documents, resources
from edgepack.device import host
from edgepack.errors import ConfigError
from edgepack.specs import Compute, EngineFacts, Host, Precision, QuantizationRules, Target

HOST_PREFIX = "host-"
# The engines that compute on this host's CPU. ``backends.BACKENDS`` has the same keys (a test compares them), and
# tensorrt, whose profile of this host is made where NVIDIA's driver is.
HOST_ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tvm": "TVM"}
TENSORRT = "tensorrt"

_ENGINES: tuple[str, ...] = typing.get_args(typing.get_type_hints(QuantizationRules)["engine"])
_ARCHITECTURES = ("x86_64", "aarch64", "armv7l", "i686", "riscv64")
_SYSTEMS = ("linux", "windows", "darwin")
_X86 = ("x86_64", "i686")
_VNNI = {"avx512_vnni", "avx_vnni"}
_MOST_BYTES = 256 * 1024
_MOST_TEXT = 500
# What an engine takes at all, where that is less than the defaults of ``QuantizationRules``.
_RULES = {TENSORRT: {"activation_type": "int8", "activation_symmetric": True, "quantize_bias": False}}
_TENSORRT_DEVICES = ("GPU", "DLA", "DLA.0", "DLA.1")
_IDENTIFIER = r"[a-z0-9][a-z0-9._-]{0,63}"
_DEVICE = r"[A-Za-z0-9_.]{1,64}"


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
    known = {target.id: target for target in host_targets()}
    if name_or_path in known:
        return known[name_or_path]
    if name_or_path == HOST_PREFIX + TENSORRT:
        raise ConfigError(
            "host-tensorrt is made from this machine's NVIDIA GPU, and no NVIDIA driver was found here",
            hint="for a device elsewhere give its profile, as --target jetson-orin-nano-jp6 or --target nvidia-gpu",
        )
    shipped = {path.stem: path for path in sorted(resources.targets_folder().glob("*.toml"))}
    if name_or_path in shipped:
        return read_target(shipped[name_or_path])
    if name_or_path.removeprefix(HOST_PREFIX) in _ENGINES:
        engine = name_or_path.removeprefix(HOST_PREFIX)
        raise ConfigError(
            f"this version of edgepack has no backend for {engine}", hint=f"use one of {', '.join(sorted(known))}"
        )
    hint = documents.suggestion(name_or_path, [*known, *shipped])
    raise ConfigError(f"unknown target {name_or_path!r}", hint=f"{hint} Or give the path of a .toml file")


def read_target(path: Path) -> Target:
    """Return the checked profile in a TOML file. Raises ``ConfigError``."""
    data = _read_toml(path)
    backend, rules = data.get("backend"), data.get("quantization", {})
    if isinstance(rules, dict) and isinstance(backend, str):
        _check_choice(backend, _ENGINES, f"{path}: backend")
        data["quantization"] = {"engine": backend, **_RULES.get(backend, {}), **rules}
    if backend == TENSORRT and isinstance(data.get("engine", {}), dict):
        data["engine"] = {"device": "GPU", "build_on": "device", **data.get("engine", {})}
    target: Target = documents.decode(Target, data, str(path))
    check_target(target, str(path))
    return target


def host_targets(machine: Host | None = None) -> tuple[Target, ...]:
    """Return one profile for each engine that edgepack drives, made from this machine's facts; none is imported."""
    caches = host.cache_facts() if machine is None else {}
    machine = machine or host.host_facts()
    found = [host_target(engine, machine, caches) for engine in sorted(HOST_ENGINES)]
    if machine.gpu is not None:
        found.append(_host_gpu_target(machine, machine.gpu))
    return tuple(found)


def _host_gpu_target(machine: Host, gpu: str) -> Target:
    """Return the profile of this machine's NVIDIA GPU; what its engine build needs more is asked when it is built."""
    return Target(
        id=HOST_PREFIX + TENSORRT,
        title=f"this host ({gpu}), TensorRT",
        backend=TENSORRT,
        arch=machine.arch,
        os=machine.os,
        engine=EngineFacts(device="GPU", build_on="device"),
        compute=Compute(precisions=("fp32", "fp16", "int8"), cpu_model=f"^{re.escape(machine.cpu)}$"),
        quantization=QuantizationRules(engine="tensorrt", **_RULES[TENSORRT]),  # type: ignore[arg-type]
        sources={
            "compute.cpu_model": "/proc/cpuinfo of this host",
            "compute.precisions": "TensorRT documentation, support matrix: fp16 and int8 from SM 6.1 on",
            "quantization": "TensorRT documentation, Working with Quantized Types: symmetric int8 only",
        },
    )


def host_target(engine: str, machine: Host, caches: Mapping[str, int] | None = None) -> Target:
    """Return the profile of ``machine`` for one of the engines in ``HOST_ENGINES``.

    ``caches``: what ``host.cache_facts`` says of it; only TVM's code depends on them.
    """
    title = HOST_ENGINES[engine]
    known = dict(caches or {}) if engine == "tvm" else {}
    saturates = host.saturates(machine)
    return Target(
        id=HOST_PREFIX + engine,
        title=f"this host ({host.short_cpu_name(machine)}), {title}",
        backend=engine,
        arch=machine.arch,
        os=machine.os,
        engine=EngineFacts(device="CPU"),
        compute=Compute(
            isa=machine.isa,
            cores=machine.cores,
            precisions=native_precisions(engine, machine),
            cpu_model=f"^{re.escape(machine.cpu)}$",
            **known,  # type: ignore[arg-type]
        ),
        quantization=QuantizationRules(saturates=saturates, engine=engine),  # type: ignore[arg-type]
        sources={
            "compute.isa": "/proc/cpuinfo of this host",
            "compute.cores": "affinity and control group of this process",
            "compute.precisions": f"what {title} has CPU kernels for, by the instruction set",
            "compute.cpu_model": "/proc/cpuinfo of this host",
            **{f"compute.{key}": "/sys/devices/system/cpu/cpu0/cache of this host" for key in known},
            "quantization.saturates": "x86 without VNNI" if saturates else "the instruction set",
        },
    )


def native_precisions(engine: str, machine: Host) -> tuple[Precision, ...]:
    """Return the precisions that an engine's CPU kernels compute in on ``machine``, not counting emulation.

    ONNX Runtime has float16 kernels on ARM with half-precision arithmetic only (``core/mlas``). OpenVINO computes
    float16 with AVX512-FP16, AVX-NE-CONVERT or ARM half precision, and bfloat16 with AVX512-BF16, AMX-BF16 or
    AVX-NE-CONVERT (``intel_cpu/src/utils/precision_support.cpp``; there oneDNN's avx2_vnni_2 is these three flags).
    """
    flags = set(machine.isa)
    arm_half = {"fphp", "asimdhp"} <= flags
    narrow = {"avx_vnni", "avx_vnni_int8", "avx_ne_convert"} <= flags
    half = arm_half or (engine == "openvino" and (narrow or "avx512_fp16" in flags))
    brain = engine == "openvino" and (narrow or bool({"avx512_bf16", "amx_bf16"} & flags))
    found: list[Precision] = ["fp32"]
    if half:
        found.append("fp16")
    if brain:
        found.append("bf16")
    return (*found, "int8")


# --- checking ---------------------------------------------------------------------------------------------------------


def check_target(target: Target, where: str) -> None:
    """Raise ``ConfigError`` for values that no device has, and for facts that contradict each other."""
    _check_names(target, where)
    _check_compute(target.compute, where)
    _check_rules(target, where)
    _check_numbers(target, where)
    _check_sources(target, where)


def _check_names(target: Target, where: str) -> None:
    if not re.fullmatch(_IDENTIFIER, target.id):
        raise ConfigError(
            f"{where}: id = {target.id[:80]!r} is not a valid id", hint="write lower-case letters, digits and - . _"
        )
    if target.id.startswith(HOST_PREFIX):
        raise ConfigError(f"{where}: ids that begin with {HOST_PREFIX} are reserved", hint="choose another id")
    for key, text in (("title", target.title), *((f"sources: {k}", v) for k, v in target.sources.items())):
        if not text or len(text) > _MOST_TEXT or not text.isprintable():
            raise ConfigError(f"{where}: {key} is not one line of text", hint=f"write 1 to {_MOST_TEXT} characters")
    _check_choice(target.backend, _ENGINES, f"{where}: backend")
    _check_choice(target.arch, _ARCHITECTURES, f"{where}: arch")
    _check_choice(target.os, _SYSTEMS, f"{where}: os")
    if not re.fullmatch(_DEVICE, target.engine.device):
        raise ConfigError(
            f"{where}: engine: device = {target.engine.device[:80]!r}",
            hint="write CPU, GPU or NPU for OpenVINO, CPU or an execution provider for ONNX Runtime",
        )
    if target.backend == TENSORRT:
        _check_choice(target.engine.device, _TENSORRT_DEVICES, f"{where}: engine: device")
        for key, version in (("version", target.engine.version), ("cuda", target.engine.cuda)):
            if version is not None and not re.fullmatch(r"\d+(\.\d+){0,3}", version):
                raise ConfigError(
                    f"{where}: engine: {key} = {version[:40]!r} is not a version", hint="write it as 10.3"
                )
    if target.backend == "openvino":
        _check_choice(target.engine.device.partition(".")[0], ("CPU", "GPU", "NPU"), f"{where}: engine: device")


def _check_compute(compute: Compute, where: str) -> None:
    for flag in compute.isa:
        _check_choice(flag, sorted(host.FLAGS), f"{where}: compute: isa")
    if not compute.precisions:
        raise ConfigError(f"{where}: compute: precisions is empty", hint='for example ["fp32", "int8"]')
    for key, values in (("isa", compute.isa), ("precisions", compute.precisions)):
        if len(set(values)) != len(values):
            raise ConfigError(f"{where}: compute: {key} has a duplicate", hint="list each once")
    if compute.cpu_model is not None:
        _check_pattern(compute.cpu_model, f"{where}: compute: cpu_model")


def _check_pattern(pattern: str, where: str) -> None:
    """Refuse what is not a regular expression, and one that could take a matcher a very long time."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{where}: not a regular expression: {error}", hint="write a part of the model name"
        ) from None
    repeats = len(re.findall(r"(?<!\\)[*+{]", pattern))
    if len(pattern) > 200 or repeats > 3 or re.search(r"\)[*+{?]", pattern):
        raise ConfigError(f"{where}: too complicated", hint="write a part of the model name, without repeated groups")


def _check_rules(target: Target, where: str) -> None:
    rules = target.quantization
    if rules.engine != target.backend:
        raise ConfigError(
            f"{where}: quantization: engine = {rules.engine!r}, but backend = {target.backend!r}",
            hint="leave quantization.engine out: it follows the backend",
        )
    if target.engine.device != "CPU":
        if rules.saturates:
            raise ConfigError(f"{where}: quantization: saturates applies to x86 CPUs only", hint="leave it out")
        return
    flags = set(target.compute.isa)
    if rules.saturates and (target.arch not in _X86 or _VNNI & flags):
        raise ConfigError(
            f"{where}: quantization: saturates = true, but {target.arch} with {' '.join(sorted(flags)) or 'no isa'} "
            "adds int8 products in 32 bits",
            hint="saturates is true on x86 without avx512_vnni and avx_vnni only",
        )
    if not rules.saturates and target.arch in _X86 and flags and not _VNNI & flags:
        raise ConfigError(
            f"{where}: compute: isa has no VNNI, so int8 sums saturate at 16 bits",
            hint="add saturates = true to [quantization], or avx512_vnni or avx_vnni to isa",
        )


def _check_numbers(target: Target, where: str) -> None:
    numbers: dict[str, float | int | None] = {
        "engine: max_opset": target.engine.max_opset,
        "compute: cores": target.compute.cores,
        "compute: l1_bytes": target.compute.l1_bytes,
        "compute: l2_bytes": target.compute.l2_bytes,
        "compute: l2_cores": target.compute.l2_cores,
        "compute: dla_cores": target.compute.dla_cores or None,  # 0 says that there are none
        "limits: memory_bytes": target.limits.memory_bytes,
        "limits: bandwidth_bytes_per_s": target.limits.bandwidth_bytes_per_s,
        "power: tdp_w": target.power.tdp_w,
        **{f"limits: peak_ops_per_s: {key}": value for key, value in target.limits.peak_ops_per_s.items()},
    }
    for key, value in numbers.items():
        if value is not None and not 0 < value < 1 << 63:
            raise ConfigError(f"{where}: {key} = {value}", hint="write a number greater than 0, or leave it out")
    for key in target.limits.peak_ops_per_s:
        _check_choice(key, target.compute.precisions, f"{where}: limits: peak_ops_per_s")


def _check_sources(target: Target, where: str) -> None:
    known = [fact for section, facts in fact_paths().items() for fact in (section, *facts)]
    for key in target.sources:
        if key not in known:
            raise ConfigError(f"{where}: sources: there is no fact {key!r}", hint=documents.suggestion(key, known))


def fact_paths() -> dict[str, tuple[str, ...]]:
    """Return the dotted path of every fact of a profile by section, such as ``compute`` and ``compute.isa``."""
    sections: dict[str, tuple[str, ...]] = {}
    for name, kind in typing.get_type_hints(Target).items():
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        if name != "sources":
            sections[name] = tuple(f"{name}.{field.name}" for field in fields)
    return sections


def _check_choice(value: str, allowed: typing.Iterable[str], where: str) -> None:
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{where}: {value[:80]!r} is not known", hint=documents.suggestion(value[:80], allowed))


def _read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a file that anyone may have written."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file", hint="give the .toml file of a target")
        if status.st_size > _MOST_BYTES:
            raise ConfigError(f"{path} has {status.st_size} bytes", hint="a target's profile is a short text file")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the target {path}: {error.strerror}", hint="check the path") from None
    except ValueError as error:  # a path with a zero byte
        raise ConfigError(f"cannot read the target {path!s}: {error}", hint="check the path") from None
    try:
        return documents.parse_toml(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, which names the line, is a ValueError
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="see 'edgepack targets show ID'") from None
