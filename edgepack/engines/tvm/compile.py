"""From an ONNX model to a folder that a device runs: machine code, interface, runtime libraries, a C++ runner."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base import resources
from edgepack.base.files import scratch_folder, write_text
from edgepack.engines.common.inputs import engine_words
from edgepack.engines.common.linking import build_program, link_library
from edgepack.engines.common.refusals import remedy
from edgepack.engines.tvm import interface
from edgepack.engines.tvm.batching import batch_kind
from edgepack.engines.tvm.codegen import stack
from edgepack.engines.tvm.codegen.amx import RULE as TILES_RULE
from edgepack.engines.tvm.codegen.extremes import keep_nan
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.culprit import find_culprit
from edgepack.engines.tvm.import_onnx import Readied, import_graph, read_graph, ready, tensor_shapes, tensor_types
from edgepack.engines.tvm.installed import import_tvm
from edgepack.engines.tvm.interface import Batch, Interface
from edgepack.engines.tvm.libraries import runtime_files
from edgepack.errors import CompileError, EdgepackError
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.workload import Choose
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import Target
    from edgepack.specs.types import Precision

MODEL = "model.so"
PROGRAM = "runner"
SOURCES = ("edgepack_tvm.h", "runner.cpp")


def compile_folder(
    model: OnnxModel,
    target: Target,
    precision: Precision,
    versions: Mapping[str, str],
    out: Path,
    choose: Choose | None = None,
) -> tuple[str, ...]:
    """Write everything that runs ``model`` on ``target`` into ``out`` and return the names of the files.

    ``choose`` gives the tile of each kernel; without it the rule does. Nothing is written unless all of it can be.
    Raises ``CompileError``, or ``ToolchainError`` when a tool is missing.
    """
    libraries = runtime_files(target.arch, versions)
    with scratch_folder("edgepack-tvm-") as scratch:
        done = scratch / "done"
        done.mkdir()
        about, rules = _compile(model, target, precision, versions, done / MODEL, choose)
        _add_program(target, Path(scratch), done)
        write_text(done / interface.FILE, interface.write_interface(about))
        write_text(done / interface.FUNCTIONS, interface.write_functions(rules))
        for name, path in libraries.items():
            shutil.copyfile(path, done / name)
        names = tuple(sorted(path.name for path in done.iterdir()))
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(done / name, out / name)
    return names


def _compile(
    model: OnnxModel,
    target: Target,
    precision: Precision,
    versions: Mapping[str, str],
    out: Path,
    choose: Choose | None,
) -> tuple[Interface, Mapping[str, str]]:
    """Write the library; return its interface and the rules of its functions.

    The batch, where it is free: one sample at a time where they do not depend on each other, else any number by slower
    code, else, where TVM cannot compile that, one.
    """
    name = model.path.name
    kind = batch_kind(model)
    if kind == "free":
        try:
            readied = ready(model, batch=None)
            rules = compile_library(import_graph(model, readied), target, precision, name, out, free=True)
        except CompileError:
            kind = "fixed"
        else:
            return _interface(model, readied, target, versions, kind, rules), rules
    readied = ready(model)
    graph = import_graph(model, readied)
    try:
        rules = compile_library(graph, target, precision, name, out, choose=choose)
    except CompileError as error:
        raise _with_node(error, readied, target, precision) from error
    return _interface(model, readied, target, versions, kind, rules), rules


def _with_node(error: CompileError, readied: Readied, target: Target, precision: Precision) -> CompileError:
    """Return a refusal with the node that is refused alone too, where there is one."""

    def attempt(alone: onnx.ModelProto) -> None:
        with scratch_folder("edgepack-tvm-") as scratch:
            compile_library(read_graph(alone), target, precision, "it", scratch / MODEL)

    proto = readied.proto
    found = find_culprit(proto, tensor_types(proto), tensor_shapes(proto), attempt)
    if found is None:
        return error
    node, operator, reason = found
    words = reason.message if isinstance(reason, EdgepackError) else engine_words(reason)
    return CompileError(f"{error.message}; it is the node {node} ({operator}): {words}", hint=error.hint)


def _interface(
    model: OnnxModel, readied: Readied, target: Target, versions: Mapping[str, str], batch: Batch,
    rules: Mapping[str, str],
) -> Interface:  # fmt: skip
    shapes = tensor_shapes(readied.proto)
    return Interface(
        inputs=tuple(TensorSpec(s.name, s.dtype, shapes.get(s.name, s.shape)) for s in model.inputs),
        outputs=tuple(TensorSpec(s.name, s.dtype, shapes.get(s.name, s.shape)) for s in model.outputs),
        batch=batch,
        threads=target.compute.cores or 0,
        tvm=versions["apache-tvm"],
        ffi=versions["apache-tvm-ffi"],
        needs=interface.AMX if TILES_RULE in rules.values() else None,
    )


def compile_library(
    module: Any,
    target: Target,
    precision: Precision,
    name: str,
    out: Path,
    *,
    free: bool = False,
    choose: Choose | None = None,
) -> Mapping[str, str]:
    """Generate machine code, link it as ``out``, and return the rule that made each function.

    With ``free`` extents, TVM's own loops are taken for all functions: ours are for shapes that are known. Raises
    ``CompileError``.
    """
    tvm = import_tvm()
    relax = import_tvm("tvm.relax")
    processor = processor_of(target)
    rules: Mapping[str, str] = {}
    try:
        built_for = tvm.target.Target(processor.target())
        if free:
            with built_for:
                executable = relax.build(keep_nan(module), built_for)
        else:
            lowered = lower(module, processor, precision, choose)
            rules = lowered.rules
            executable = relax.build(
                lowered.module, built_for, relax_pipeline="default_build", tir_pipeline=stack.pipeline()
            )
        with scratch_folder("edgepack-tvm-") as scratch:
            executable.export_library(
                str(out),
                workspace_dir=str(scratch),
                fcompile=lambda path, objects, **_: link_library(
                    [Path(item) for item in objects], Path(path), target.arch, target.engine.glibc
                ),
            )
    except EdgepackError:
        raise
    except Exception as error:  # its errors have no common base
        raise CompileError(
            f"TVM refused {name}: {engine_words(error)}",
            hint=remedy(error, "replace the operator it names in the model, or use a target with another engine"),
        ) from error
    return rules


def processor_of(target: Target) -> Machine:
    """Return the processor that a target's code is generated for."""
    compute = target.compute
    return machine(
        target.arch,
        compute.isa,
        l1_bytes=compute.l1_bytes,
        l2_bytes=compute.l2_bytes,
        l2_cores=compute.l2_cores,
        threads=compute.cores or 1,
    )


def _add_program(target: Target, scratch: Path, out: Path) -> None:
    """Build the C++ runner for the target, and put its source beside it for users' own programs."""
    source = scratch / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copyfile(resources.package_folder() / "engines" / "tvm" / "cpp" / name, source / name)
        shutil.copyfile(source / name, out / name)
    build_program(source / "runner.cpp", out / PROGRAM, target.arch, target.engine.glibc)
