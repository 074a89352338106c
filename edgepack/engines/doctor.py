"""Reports what this machine can build and run with each engine and tool, and what to install for the rest.

Each one is imported and tried in a child process, so that a broken installation is a line of the report. Nothing is
installed or changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import scratch_folder
from edgepack.base.versions import installed_version
from edgepack.device.host import host_facts, saturates
from edgepack.engines import ENGINES, Engine, part_of
from edgepack.engines.common.probe import Probe, check_relu, probe_backend
from edgepack.errors import EdgepackError, ToolchainError
from edgepack.execution import child
from edgepack.specs.target import Host

_PROBE_LIMIT_S = 180.0  # a machine under load takes a minute to import and try the largest engine
_LOG = logging.getLogger("edgepack")


@dataclass(frozen=True)
class EngineReport:
    """One engine or tool: ``version`` None when it is not installed, and then ``install`` is the command that does it.

    ``devices`` and ``precisions`` are what it computes on and in natively here; ``problem`` is why an installed one
    cannot be used. ``summary`` says all of it in one line.
    """

    name: str
    version: str | None
    works: bool
    summary: str
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    install: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _Tool:
    """Something to look for: its distributions, the command that installs it, and what it is for.

    ``probe`` runs in a child process; without one ``module`` is imported. ``engine`` is the record of an engine.
    """

    name: str
    distributions: tuple[str, ...]
    install: str
    purpose: str
    module: str = ""
    probe: Callable[..., Probe] | None = None
    engine: Engine | None = None


def _tool(name: str, extra: str, purpose: str, module: str = "", probe: Callable[..., Probe] | None = None) -> _Tool:
    return _Tool(name, (name,), f"pip install 'edgepack[{extra}]'", purpose, module or name, probe)


def probe_torch() -> Probe:
    """Compute something with torch and say which build it is."""
    import torch

    check_relu(torch.relu(torch.tensor([-1.0, 2.0])).numpy())
    build = "with CUDA" if torch.cuda.is_available() else "on the CPU"
    return Probe(f"exports PyTorch models, {build}")


_TOOLS = (
    _tool("tensorrt-rtx", "proxy", "checks models for TensorRT without a GPU", "tensorrt_rtx"),
    _tool("torch", "torch", "exports PyTorch models", probe=probe_torch),
    _tool("onnxscript", "torch", "is used by torch to export"),
    _tool("onnx", "builder", "checks and rewrites models"),
    _tool("onnxslim", "builder", "simplifies models"),
    _tool("pillow", "builder", "reads pictures", "PIL"),
    _tool("scipy", "builder", "computes intervals and quantization errors"),
    _tool("msgspec", "builder", "writes JSON schemas"),
    _tool("jinja2", "builder", "writes reports"),
    _tool("rich", "cli", "prints tables and progress"),
)


def diagnose() -> tuple[EngineReport, ...]:
    """Return a report of every engine and tool that edgepack can use, engines first. Takes seconds."""
    host = host_facts()
    with scratch_folder("edgepack-doctor-") as folder:
        return tuple(_examine(tool, host, Path(folder)) for tool in tools())


def tools() -> tuple[_Tool, ...]:
    """Return what is looked for. Another package's engine that cannot be imported is a warning."""
    return (*(_engine_tool(name, engine) for name, engine in ENGINES.all()), *_TOOLS)


def _engine_tool(name: str, engine: Engine) -> _Tool:
    probe = None
    if engine.probe:
        try:
            probe = part_of(name, engine.probe)
        except ToolchainError as error:
            _LOG.warning("%s", error.message)
    distributions = engine.distributions
    return _Tool(name, distributions, engine.install_command, "builds and runs", engine.package, probe, engine)


def _examine(tool: _Tool, host: Host, folder: Path) -> EngineReport:
    version = _version(tool)
    without = tool.engine.works_without if tool.engine else ""
    if version is None and not without:
        install = tool.install
        return EngineReport(tool.name, None, works=False, summary=f"not installed: {install}", install=install)
    try:
        probe = _probe(tool, folder)
    except EdgepackError as error:
        if without:  # it comes with a device's system, not with pip
            words = f"{without} ({error.message})"
            return EngineReport(tool.name, version, False, words, install=error.hint, problem=error.message)
        return _broken(tool, version or "unknown", error)
    words = probe.words
    if tool.engine:
        words += f"; {_int8(host)}" if "CPU" in probe.devices else ""
    return EngineReport(tool.name, version, True, words, probe.devices, probe.precisions)


def _version(tool: _Tool) -> str | None:
    return next(filter(None, map(installed_version, tool.distributions)), None)


def _probe(tool: _Tool, folder: Path) -> Probe:
    log = folder / f"{tool.name}.log"
    if tool.probe is not None:
        return child.call(tool.probe, limit_s=_PROBE_LIMIT_S, log=log)
    if tool.engine is not None:
        return child.call(probe_backend, tool.name, limit_s=_PROBE_LIMIT_S, log=log)
    return child.call(probe_module, tool.module, tool.purpose, limit_s=_PROBE_LIMIT_S, log=log)


def _broken(tool: _Tool, version: str, error: EdgepackError) -> EngineReport:
    install = tool.install.replace("pip install ", "pip install --force-reinstall ", 1)
    problem = error.message
    if lines := getattr(error, "log", "").strip().splitlines():
        problem += f": {lines[-1].strip()}"
    summary = f"installed, but it does not work ({problem}): {install}"
    return EngineReport(tool.name, version, works=False, summary=summary, install=install, problem=problem)


def _int8(host: Host) -> str:
    """Say what int8 is worth on this CPU."""
    if saturates(host):
        return (
            "int8 sums saturate at 16 bits on this CPU (x86 without VNNI); the host's profile takes this into account"
        )
    flags = [flag for flag in ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp") if flag in host.isa]
    return f"this CPU has int8 instructions ({', '.join(flags)})" if flags else "this CPU has no int8 instructions"


def probe_module(module: str, purpose: str) -> Probe:
    """Import a module."""
    __import__(module)
    return Probe(purpose)
