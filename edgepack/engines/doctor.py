"""Reports what this machine can build and run with each engine and tool, and what to install for the rest.

Each one is imported and tried in a child process, so that a broken installation is a line of the report. Nothing is
installed or changed.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.files import sha256_file
from edgepack.device.host import host_facts, saturates
from edgepack.device.profiles import host_target, native_precisions
from edgepack.engines import BACKENDS, get_backend
from edgepack.errors import EdgepackError
from edgepack.execution import child
from edgepack.specs import Host, OnnxModel, RunOptions, TensorSpec

_PROBE_LIMIT_S = 180.0  # a machine under load takes a minute to import and try the largest engine

# y = Relu(x) of two float32 numbers as an ONNX message (opset 13), so that an engine is tried without the onnx package.
_RELU = (
    b'\x08\x07:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\r"
)


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
class Probe:
    """What a child process found: ``words`` for the summary, and the devices and precisions of an engine."""

    words: str
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tool:
    """Something to look for: its distributions, the extra of edgepack that brings it, and what it is for."""

    name: str
    distributions: tuple[str, ...]
    extra: str
    purpose: str
    module: str = ""


_TOOLS = (
    _Tool("onnxruntime", ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"), "onnxruntime", "builds and runs"),
    _Tool("openvino", ("openvino",), "openvino", "builds and runs"),
    _Tool("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "", "builds and runs"),
    _Tool("tensorrt-rtx", ("tensorrt-rtx",), "proxy", "checks models for TensorRT without a GPU", "tensorrt_rtx"),
    _Tool("tvm", ("apache-tvm",), "tvm", "builds and runs"),
    _Tool("torch", ("torch",), "torch", "exports PyTorch models"),
    _Tool("onnxscript", ("onnxscript",), "torch", "is used by torch to export"),
    _Tool("onnx", ("onnx",), "build", "checks and rewrites models"),
    _Tool("onnxslim", ("onnxslim",), "build", "simplifies models"),
    _Tool("pillow", ("pillow",), "build", "reads pictures", "PIL"),
    _Tool("scipy", ("scipy",), "build", "computes intervals and quantization errors"),
    _Tool("msgspec", ("msgspec",), "build", "writes JSON schemas"),
    _Tool("jinja2", ("jinja2",), "build", "writes reports"),
    _Tool("rich", ("rich",), "cli", "prints tables and progress"),
)


def diagnose() -> tuple[EngineReport, ...]:
    """Return a report of every engine and tool that edgepack can use, engines first. Takes seconds."""
    host = host_facts()
    with tempfile.TemporaryDirectory(prefix="edgepack-doctor-") as folder:
        return tuple(_examine(tool, host, Path(folder)) for tool in _TOOLS)


def _examine(tool: _Tool, host: Host, folder: Path) -> EngineReport:
    version = _version(tool)
    if tool.name == "tensorrt":
        return _examine_tensorrt(version, folder)
    if version is None:
        install = f"pip install 'edgepack[{tool.extra}]'"
        return EngineReport(tool.name, None, works=False, summary=f"not installed: {install}", install=install)
    try:
        probe = _probe(tool, folder)
    except EdgepackError as error:
        return _broken(tool, version, error)
    words = probe.words
    if tool.name in BACKENDS:
        words += f"; {_int8(host)}" if "CPU" in probe.devices else ""
    return EngineReport(tool.name, version, True, words, probe.devices, probe.precisions)


def _examine_tensorrt(version: str | None, folder: Path) -> EngineReport:
    """TensorRT comes with a device's system, not with pip; bundles for it are built here without it."""
    try:
        probe = child.call(probe_tensorrt, limit_s=_PROBE_LIMIT_S, log=folder / "tensorrt.log")
    except EdgepackError as error:
        words = f"builds bundles for Jetson; cannot run them here ({error.message})"
        return EngineReport("tensorrt", version, works=False, summary=words, install=error.hint, problem=error.message)
    return EngineReport("tensorrt", version, True, probe.words, probe.devices, probe.precisions)


def _version(tool: _Tool) -> str | None:
    for name in tool.distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _probe(tool: _Tool, folder: Path) -> Probe:
    log = folder / f"{tool.name}.log"
    if tool.name in _PROBES:
        return child.call(_PROBES[tool.name], limit_s=_PROBE_LIMIT_S, log=log)
    return child.call(probe_module, tool.module or tool.name, tool.purpose, limit_s=_PROBE_LIMIT_S, log=log)


def _broken(tool: _Tool, version: str, error: EdgepackError) -> EngineReport:
    install = f"pip install --force-reinstall 'edgepack[{tool.extra}]'"
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


# --- run in child processes -------------------------------------------------------------------------------------------


def probe_onnxruntime() -> Probe:
    """Run a model on ONNX Runtime's CPU and list its execution providers."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(_RELU, providers=["CPUExecutionProvider"])
    _check(session.run(None, {"x": np.array([-1, 2], np.float32)})[0])
    # Azure's provider sends models to a web service; it computes nothing here.
    names = [n.removesuffix("ExecutionProvider") for n in onnxruntime.get_available_providers()]
    devices = tuple(sorted(name for name in names if name != "Azure"))
    return _engine_probe(devices, native_precisions("onnxruntime", host_facts()))


def probe_openvino() -> Probe:
    """Run a model on every device that OpenVINO finds, and ask each what it computes in."""
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(_RELU, b"")
    found: dict[str, set[str]] = {}
    refused: list[str] = []
    for device in core.available_devices:
        settings = {"INFERENCE_PRECISION_HINT": "f32"} if device == "CPU" else {}
        try:
            _check(core.compile_model(model, device, settings)({"x": np.array([-1, 2], np.float32)})[0])
            found[device] = set(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
        except Exception as error:  # a device with a bad driver; the others still count
            refused.append(f"{device} does not work ({' '.join(str(error).split())[:200]})")
    offered = set().union(*found.values())
    names = tuple(name for name in ("fp32", "fp16", "bf16", "int8") if name.upper() in offered)
    probe = _engine_probe(tuple(found), names)
    return Probe("; ".join([probe.words, *refused]), probe.devices, probe.precisions)


def probe_tvm() -> Probe:
    """Compile a model with TVM, link it with Zig, and run it on TVM's runtime."""
    import numpy as np

    from edgepack.engines.tvm.linking import ARCHITECTURES

    backend, host = get_backend("tvm"), host_facts()
    backend.versions()
    with tempfile.TemporaryDirectory(prefix="edgepack-doctor-") as folder:
        path = Path(folder, "relu.onnx")
        path.write_bytes(_RELU)
        x, y = (TensorSpec(name, "float32", (2,)) for name in "xy")
        model = OnnxModel(path, sha256_file(path), len(_RELU), 13, (x,), (y,))
        compiled = backend.compile_model(model, host_target("tvm", host), "fp32", Path(folder, "out"))
        runner = backend.load_model(compiled, RunOptions(threads=1))
        _check(runner.infer({"x": np.array([-1, 2], np.float32)})["y"])
        runner.close()
    probe = _engine_probe(("CPU",), native_precisions("tvm", host))
    return Probe(f"links for {', '.join(ARCHITECTURES)}; {probe.words}", probe.devices, probe.precisions)


def probe_tensorrt() -> Probe:
    """Ask for the GPU, its driver and TensorRT; nothing is computed, since that would take a build of minutes."""
    from edgepack.engines.tensorrt.api_versions import surface_of
    from edgepack.engines.tensorrt.device import find_device

    found = find_device()
    surface_of(found.tensorrt)
    words = f"builds and runs on {found.device} (SM {found.sm}), TensorRT {found.tensorrt}, CUDA {found.cuda}"
    return Probe(words, ("GPU",), ("fp32", "fp16", "int8"))


def probe_torch() -> Probe:
    """Compute something with torch and say which build it is."""
    import torch

    _check(torch.relu(torch.tensor([-1.0, 2.0])).numpy())
    build = "with CUDA" if torch.cuda.is_available() else "on the CPU"
    return Probe(f"exports PyTorch models, {build}")


def probe_module(module: str, purpose: str) -> Probe:
    """Import a module."""
    __import__(module)
    return Probe(purpose)


_PROBES = {"onnxruntime": probe_onnxruntime, "openvino": probe_openvino, "torch": probe_torch, "tvm": probe_tvm}


def _engine_probe(devices: tuple[str, ...], precisions: tuple[str, ...]) -> Probe:
    if not devices:
        raise EdgepackError("it finds no device", hint="install it again")
    return Probe(f"builds and runs on {', '.join(devices)} in {', '.join(precisions)}", devices, precisions)


def _check(output: Any) -> None:
    if list(output) != [0.0, 2.0]:
        raise EdgepackError(f"it computes max(0, [-1, 2]) = {list(output)}", hint="install it again")
