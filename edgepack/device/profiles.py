"""Device profiles: reads ``targets/<id>.toml`` and checks what does not depend on the engine (``engines/targets.py``).

A profile is data that anyone may have written: its size is limited, every key, name and number is checked, and facts
that contradict each other are refused rather than resolved.
"""

from __future__ import annotations

import dataclasses
import re
import stat
import typing
from pathlib import Path
from typing import Any

from edgepack.base import documents
from edgepack.base.missing import nothing_at
from edgepack.device import host
from edgepack.errors import ConfigError
from edgepack.specs.target import Compute, Target

HOST_PREFIX = "host-"

_ARCHITECTURES = ("x86_64", "aarch64", "armv7l", "i686", "riscv64")
_SYSTEMS = ("linux", "windows", "darwin")
_X86 = ("x86_64", "i686")
_VNNI = {"avx512_vnni", "avx_vnni"}
_MOST_BYTES = 256 * 1024
_MOST_TEXT = 500
_IDENTIFIER = r"[a-z0-9][a-z0-9._-]{0,63}"
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_DEVICE = r"[A-Za-z0-9_.]{1,64}"


# --- checking ---------------------------------------------------------------------------------------------------------


def check_target(target: Target, where: str) -> None:
    """Raise ``ConfigError`` for values that no device has, and for facts that contradict each other."""
    _check_names(target, where)
    _check_compute(target.compute, where)
    _check_rules(target, where)
    _check_numbers(target, where)
    _check_price(target, where)
    _check_sources(target, where)


def _check_names(target: Target, where: str) -> None:
    if not re.fullmatch(_IDENTIFIER, target.id):
        raise ConfigError(
            f"{where}: id = {target.id[:80]!r} is not a valid id", hint="write lower-case letters, digits and - . _"
        )
    if target.id.startswith(HOST_PREFIX):
        raise ConfigError(f"{where}: ids that begin with {HOST_PREFIX} are reserved", hint="choose another id")
    for key, text in (
        ("title", target.title),
        ("price: what", target.price.what or "-"),
        *((f"sources: {k}", v) for k, v in target.sources.items()),
    ):
        if not text or len(text) > _MOST_TEXT or not text.isprintable():
            raise ConfigError(f"{where}: {key} is not one line of text", hint=f"write 1 to {_MOST_TEXT} characters")
    check_choice(target.arch, _ARCHITECTURES, f"{where}: arch")
    check_choice(target.os, _SYSTEMS, f"{where}: os")
    if not re.fullmatch(_DEVICE, target.engine.device):
        raise ConfigError(
            f"{where}: engine: device = {target.engine.device[:80]!r}",
            hint="write CPU, GPU or NPU for OpenVINO, CPU or an execution provider for ONNX Runtime",
        )


def _check_compute(compute: Compute, where: str) -> None:
    for flag in compute.isa:
        check_choice(flag, sorted(host.FLAGS), f"{where}: compute: isa")
    if not compute.precisions:
        raise ConfigError(f"{where}: compute: precisions is empty", hint='for example ["fp32", "int8"]')
    for key, values in (("isa", compute.isa), ("precisions", compute.precisions)):
        if len(set(values)) != len(values):
            raise ConfigError(f"{where}: compute: {key} has a duplicate", hint="list each once")
    if compute.cpu_model is not None:
        check_pattern(compute.cpu_model, f"{where}: compute: cpu_model")


def check_pattern(pattern: str, where: str) -> None:
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
        "price: usd": target.price.usd,
        **{f"limits: peak_ops_per_s: {key}": value for key, value in target.limits.peak_ops_per_s.items()},
    }
    for key, value in numbers.items():
        if value is not None and not 0 < value < 1 << 63:
            raise ConfigError(f"{where}: {key} = {value}", hint="write a number greater than 0, or leave it out")
    for key in target.limits.peak_ops_per_s:
        check_choice(key, target.compute.precisions, f"{where}: limits: peak_ops_per_s")


def _check_price(target: Target, where: str) -> None:
    price = target.price
    if price.date is not None and not _MONTH.fullmatch(price.date):
        raise ConfigError(f"{where}: price: date = {price.date[:80]!r}", hint="write year and month, as 2023-09")
    if (price.usd is None) != (price.date is None):
        raise ConfigError(f"{where}: price: usd and date go together", hint="a price is shown with when it was one")


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


def check_choice(value: str, allowed: typing.Iterable[str], where: str) -> None:
    """Raise ``ConfigError`` with the near name for a value that is not one of ``allowed``."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{where}: {value[:80]!r} is not known", hint=documents.suggestion(value[:80], allowed))


def read_profile(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file that anyone may have written. Raises ``ConfigError``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file", hint="give the .toml file of a target")
        if status.st_size > _MOST_BYTES:
            raise ConfigError(f"{path} has {status.st_size} bytes", hint="a target's profile is a short text file")
        data = path.read_bytes()
    except FileNotFoundError:
        message, hint = nothing_at(path, "check the path; 'edgepack targets' lists ours", what="target")
        raise ConfigError(message, hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read the target {path}: {error.strerror}", hint="check the path") from None
    except ValueError as error:  # a path with a zero byte
        raise ConfigError(f"cannot read the target {path!s}: {error}", hint="check the path") from None
    try:
        return documents.parse_toml(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, which names the line, is a ValueError
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="see 'edgepack targets show ID'") from None
