"""TVM: compiles a model to machine code in one shared library; for boards that no vendor's engine runs on.

- The bundle carries its engine: TVM's two runtime libraries for the device's processor. A device needs numpy, or with
  the C++ runner nothing but the C and C++ libraries of its system.
- Shapes are fixed when compiling. A free batch is compiled for one sample and called once for each, where ONNX Runtime
  shows on random samples that they do not depend on each other; else the batch is 1.
- For a device that this host is not, the same graph is also compiled for this host, so that its numerics can be
  verified here; that library is not part of the bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.engines.common.installed import engine_version
from edgepack.engines.common.refusals import opset_too_high, require_files
from edgepack.engines.tvm.facts import ENGINE
from edgepack.errors import CompileError, ToolchainError
from edgepack.specs.model import CompiledModel, Diagnostic, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target
from edgepack.specs.types import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.engines.tvm.import_onnx import Readied
    from edgepack.engines.tvm.records import Records
    from edgepack.engines.tvm.runner import TvmRunner

TITLE = ENGINE.title
ENTRY = "model.so"
_EXTRA = ENGINE.extra
PINS = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
# These end the process while tuning (every commit of a JSONDatabase, in ToJSONGraph) and are what pip chooses unpinned.
CRASHING_FFI = ("0.1.15", "0.1.15.post1", "0.1.15.post2")
_HOST_BUILD = "host"


def versions() -> Mapping[str, str]:
    """Return the versions of TVM's packages; they are not imported. Raises ``ToolchainError``."""
    found = {
        "apache-tvm": engine_version(TITLE, _EXTRA, "tvm", "apache-tvm"),
        "apache-tvm-ffi": engine_version(TITLE, _EXTRA, "tvm_ffi", "apache-tvm-ffi"),
    }
    pin = " ".join(f"'{name}=={version}'" for name, version in PINS.items())
    if found["apache-tvm-ffi"] in CRASHING_FFI:
        raise ToolchainError(
            f"apache-tvm-ffi {found['apache-tvm-ffi']} is known to crash while tuning", hint=f"pip install {pin}"
        )
    if not found["apache-tvm"].startswith("0.27."):
        raise ToolchainError(
            f"apache-tvm {found['apache-tvm']} is not the 0.27 that edgepack's code generation is written for",
            hint=f"pip install {pin}",
        )
    return found


def check(model: OnnxModel, target: Target) -> list[Diagnostic]:
    """Return what TVM will refuse: an opset above the device's, operators it lacks, free shapes, too little memory."""
    from edgepack.engines.tvm.batching import batch_kind
    from edgepack.engines.tvm.import_onnx import import_problems, ready

    found = opset_too_high(TITLE, model, target)
    try:
        readied = ready(model)
    except CompileError as error:
        return [*found, Diagnostic("error", error.message, hint=error.hint)]
    found += [*readied.missing, *import_problems(model, readied), *_check_memory(readied, target)]
    if not found and batch_kind(model) == "free":
        words = (
            "samples of a batch depend on each other, so that it is run by TVM's own loops, which are many times slower"
        )
        found.append(Diagnostic("warning", words, hint="fix the batch with --shape, as --shape NAME=1x3x224x224"))
    return found


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Write ``model.so``, its interface, the runtime libraries and a C++ runner. Raises ``CompileError``.

    For a device that this host is not, the folder ``host`` holds the same for this host; it is not part of the model.
    """
    from edgepack.device.host import cache_facts, can_run, host_facts
    from edgepack.engines.targets import host_target
    from edgepack.engines.tvm.compile import compile_folder
    from edgepack.engines.tvm.cost_model import chooser

    known = versions()
    host = host_facts()
    files = compile_folder(model, target, precision, known, out, chooser(tuned_records(target, known)))
    if not can_run(target, host):
        compile_folder(model, host_target("tvm", host, cache_facts()), precision, known, out / _HOST_BUILD)
    return CompiledModel(
        backend="tvm",
        precision=precision,
        folder=out,
        entry=ENTRY,
        files=files,
        inputs=model.inputs,
        outputs=model.outputs,
        versions=known,
        device=target.engine.device,
    )


def tuned_digest(target: Target) -> str | None:
    """Return the sha256 of what was measured of kernels on the target, None where nothing was."""
    from edgepack.engines.tvm.compile import processor_of
    from edgepack.engines.tvm.records import digest_of, path_of

    return digest_of(path_of(target.id, processor_of(target), versions()["apache-tvm"]))


def tuned_records(target: Target, known: Mapping[str, str]) -> Records:
    """Return what was measured of kernels on the target. Raises ``ConfigError`` where the file is damaged."""
    from edgepack.engines.tvm.compile import processor_of
    from edgepack.engines.tvm.records import load_records, path_of

    machine = processor_of(target)
    return load_records(path_of(target.id, machine, known["apache-tvm"]), machine, known["apache-tvm"])


def load_model(compiled: CompiledModel, options: RunOptions) -> TvmRunner:
    """Load compiled files; for another device's, the ones compiled beside them for this host.

    Raises ``ToolchainError``, or ``CompileError`` when the files are damaged or not those of the model.
    """
    from edgepack.engines.tvm.runner import load_runner

    if (device := options.device or compiled.device) != "CPU":
        raise ToolchainError(f"this {TITLE} has no {device}; it has CPU", hint="leave the device out")
    require_files(compiled.folder, *compiled.files)
    entry = compiled.folder / compiled.entry
    host_build = entry.parent / _HOST_BUILD
    return load_runner(host_build if host_build.is_dir() else entry.parent, compiled.inputs, compiled.outputs, options)


def _check_memory(readied: Readied, target: Target) -> list[Diagnostic]:
    """Refuse a model whose weights and activations alone are more than the device's memory."""
    from edgepack.engines.tvm.import_onnx import tensor_shapes, tensor_types
    from edgepack.engines.tvm.memory import memory_need

    limit = target.limits.memory_bytes
    if limit is None:
        return []
    need = memory_need(readied.proto, tensor_shapes(readied.proto), tensor_types(readied.proto))
    if need.weights_bytes + need.tensors_bytes <= limit:
        return []
    return [
        Diagnostic(
            "error",
            f"it needs at least {_mib(need.weights_bytes)} MiB for weights and {_mib(need.tensors_bytes)} MiB for "
            f"tensors; {target.id} has {_mib(limit)} MiB",
            need.node,
            "use smaller inputs, --precision int8, or another device",
        )
    ]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f}"
