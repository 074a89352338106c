"""ONNX Runtime: the reference engine. It runs the ONNX graph itself; its native file is ``model.onnx``.

- A pre-optimized graph is not stored: from the "all" level on it holds layouts of the builder's instruction set, and
  loading with optimization takes milliseconds.
- fp16 on x86: the CPU provider has float16 kernels on ARM only; elsewhere it casts to float32, runs that, and casts
  back, so a float16 graph is smaller but not faster. bfloat16 has almost no CPU kernels: ``check`` names the nodes.
- float32 is always computed as float32; nothing lowers it unless asked to.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.engines.common.fixed_batch import FixedBatchRunner, free_batch
from edgepack.engines.common.inputs import engine_words, refuse
from edgepack.engines.common.installed import engine_version, import_engine
from edgepack.engines.common.refusals import OTHER_FILES, closed, opset_too_high, remedy, require_files
from edgepack.engines.common.threads import forked, keep_for_ever, refuse_pickling
from edgepack.engines.native_options import native_settings
from edgepack.engines.onnxruntime.facts import ENGINE
from edgepack.errors import CompileError, EdgepackError, ModelError, ToolchainError
from edgepack.graph.captured import leave_out
from edgepack.graph.wire import Named, read_named
from edgepack.specs.model import CompiledModel, Diagnostic, OnnxModel, TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target
from edgepack.specs.types import Array, Feeds, Precision

TITLE = ENGINE.title
ENTRY = "model.onnx"
_EXTRA = ENGINE.extra
_CPU = "CPUExecutionProvider"
_NUMBERS = frozenset(
    {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
)
_ELEMENTS = {
    **{f"tensor({name})": name for name in _NUMBERS - {"float32", "float64"}},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}
_FATAL = 4  # log severity: every error is raised as an exception as well, so that printing it says nothing new


class OnnxRuntimeRunner:
    """A session. Every call returns arrays of its own, and several threads may call at once."""

    any_thread = True

    def __init__(self, session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self._session = session
        self._run = session.run
        self._inputs, self._outputs = inputs, outputs
        self._names = [spec.name for spec in outputs]
        self._types = [(spec.name, np.dtype(spec.dtype)) for spec in inputs if spec.dtype in _NUMBERS]

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name. Raises ``DataError`` for inputs that do not fit the model."""
        try:
            for name, dtype in self._types:
                if feeds[name].dtype != dtype:  # it would read another byte order as its own
                    raise TypeError(name)
            return dict(zip(self._names, self._run(self._names, feeds), strict=False))
        except Exception as error:
            if isinstance(feeds, Mapping) and not isinstance(feeds, dict):  # the engine takes no other mapping
                return self.infer(dict(feeds))
            if isinstance(error, EdgepackError):
                raise
            refuse(TITLE, feeds, self._inputs, error)

    def another(self) -> OnnxRuntimeRunner:
        """Return a runner of the same session, which several threads may run at once."""
        return type(self)(self._session, self._inputs, self._outputs)

    def close(self) -> None:
        """Free the session."""
        self._session = None
        self._run = closed

    def abandon(self) -> None:
        """Leave the session alone in a process that was forked: its threads are the parent's."""
        keep_for_ever(self._session)
        self._session, self._run = None, forked

    __reduce__ = refuse_pickling


class ReusingRunner(OnnxRuntimeRunner):
    """A session whose outputs are written into the arrays of the call before, as long as the inputs' shapes stay."""

    any_thread = False

    def __init__(self, session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        super().__init__(session, inputs, outputs)
        self._plain = session.run
        self._binding: Any = None
        self._shapes: list[tuple[int, ...]] = []
        self._arrays: list[Array] = []
        self._run = self._run_bound

    def _run_bound(self, _names: list[str], feeds: Feeds) -> list[Array]:
        """Do what ``session.run`` does. Arrays that the engine cannot read where they lie take the plain way."""
        values = [feeds[spec.name] for spec in self._inputs]
        if len(feeds) != len(values) or not all(value.flags.c_contiguous for value in values):
            return list(self._plain(self._names, feeds))
        shapes = [value.shape for value in values]
        if self._binding is None or shapes != self._shapes:
            return self._bind(feeds, shapes)
        for spec, value in zip(self._inputs, values, strict=True):
            self._binding.bind_cpu_input(spec.name, value)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception:  # an output has another shape than before, or the inputs are wrong, which this tells
            self._binding = None
            return list(self._plain(self._names, feeds))
        return self._arrays

    def _bind(self, feeds: Feeds, shapes: list[tuple[int, ...]]) -> list[Array]:
        """Run once to learn the shapes of the outputs, and bind arrays of them for the next call."""
        arrays = list(self._plain(self._names, feeds))
        self._binding, self._arrays = None, []
        if all(isinstance(array, np.ndarray) and array.dtype.name in _NUMBERS and array.ndim for array in arrays):
            self._shapes, self._binding = shapes, self._session.io_binding()
            self._arrays = [np.empty(array.shape, array.dtype) for array in arrays]
            for name, array in zip(self._names, self._arrays, strict=True):
                self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return arrays

    def close(self) -> None:
        """Free the session and the arrays."""
        super().close()
        self._plain, self._binding = closed, None


def versions() -> Mapping[str, str]:
    """Return ONNX Runtime's version; the engine is not imported. Raises ``ToolchainError``."""
    return {"onnxruntime": engine_version(TITLE, _EXTRA, "onnxruntime", *ENGINE.distributions)}


def check(model: OnnxModel, target: Target) -> list[Diagnostic]:
    """Return what ONNX Runtime will refuse, an opset above the device's, operators or types without a kernel; and what
    it may compute wrongly.
    """
    found = opset_too_high(TITLE, model, target)
    if target.engine.device == "CPU":
        found += _check_kernels(model) + _check_order(model)
    return found


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Load the model once, then write it as ``model.onnx``, large weights beside it. Raises ``CompileError``.

    What ONNX Runtime does not fuse is joined before (``hard_swish.py``, ``tanh_gelu.py``), int8 layers get the channels
    that its kernels are quick with (``fill_channels.py``, ``fold_windows.py``), and what it would be aborted by or get
    wrong is kept from it (``graph/captured.py``, ``graph/float_layers.py``, ``softmax_range.py``).
    """
    known = versions()
    if target.engine.device == "CPU":
        _open(model.path, model.path.name, RunOptions(), "CPU")
    out.mkdir(parents=True, exist_ok=True)
    files = _write(model, out, target)
    return CompiledModel(
        backend="onnxruntime",
        precision=precision,
        folder=out,
        entry=ENTRY,
        files=files,
        inputs=model.inputs,
        outputs=model.outputs,
        versions=known,
        device=target.engine.device,
    )


def _write(model: OnnxModel, out: Path, target: Target) -> tuple[str, ...]:
    """Write the model with its activations joined, channels filled and captured tensors kept; return the files.

    Weights beside it are not read for the first.
    """
    from edgepack.engines.common.weights import copy_model
    from edgepack.engines.onnxruntime.fill_channels import fill_channels
    from edgepack.engines.onnxruntime.fold_windows import may_fold
    from edgepack.engines.onnxruntime.hard_swish import join_hard_swish
    from edgepack.engines.onnxruntime.softmax_range import keep_saturating
    from edgepack.engines.onnxruntime.tanh_gelu import join_tanh_gelu
    from edgepack.graph.captured import keep_captured
    from edgepack.graph.float_layers import keep_float
    from edgepack.graph.load import read_proto, save_proto

    if model.external:
        light = read_proto(model, weights=False)
        if not keep_captured(light) + keep_float(light):
            return copy_model(model, out, ENTRY)
    proto = read_proto(model)
    changed = keep_captured(proto) + join_hard_swish(proto) + join_tanh_gelu(proto) + keep_saturating(proto)
    changed += keep_float(proto)
    if target.engine.device == "CPU":
        changed += fill_channels(proto, fold=may_fold(target))
    if not changed:
        return copy_model(model, out, ENTRY)
    with scratch_folder() as scratch:
        return copy_model(save_proto(proto, scratch, ENTRY), out, ENTRY)


def load_model(compiled: CompiledModel, options: RunOptions) -> OnnxRuntimeRunner | FixedBatchRunner:
    """Load compiled files. Raises ``ToolchainError``, or ``CompileError`` when the engine refuses them."""
    path = compiled.folder / compiled.entry
    device = options.device or compiled.device
    batch = None
    if options.fixed_batch and free_batch(compiled.inputs):
        batch = (str(compiled.inputs[0].shape[0]), options.fixed_batch)
    named = named_in(path, OTHER_FILES)
    _refuse_other_files(compiled, named)
    session = _open(path, compiled.entry, options, device, batch, named)
    _check_names(session, compiled)
    _check_types(session, compiled)
    if options.fixed_batch and free_batch(compiled.inputs):
        general = dataclasses.replace(options, fixed_batch=None)
        return FixedBatchRunner(
            _runner(session, compiled, options, device), lambda: load_model(compiled, general), options.fixed_batch
        )
    return _runner(session, compiled, options, device)


def named_in(path: Path, hint: str | None = None) -> Named:
    """Return what a graph names. Raises ``CompileError`` for a file that is not there or damaged, with its hint."""
    require_files(path.parent, path.name)
    try:
        return read_named(path)
    except ModelError as error:
        raise CompileError(f"{path.name}: {error.message}", hint=hint or error.hint) from error


def _refuse_other_files(compiled: CompiledModel, named: Named) -> None:
    """Raise ``CompileError`` for a graph that names other files than those that were compiled with it.

    ONNX Runtime 1.20 opens them wherever they are, 1.31 those in the same folder. Other tensors than the main graph's
    initializers are never compiled into files of their own.
    """
    folder = compiled.entry[: compiled.entry.rfind("/") + 1]  # in a bundle; the graph names what lies beside it
    own = {file.removeprefix(folder) for file in compiled.files if file != compiled.entry}
    if strange := sorted(named.weights - own):
        words = f"reads weights from {strange[0][:80]!r}, which is not one of its files"
    elif named.others:
        words = f"reads what is not a weight of its main graph from {min(named.others)[:80]!r}"
    else:
        return
    raise CompileError(f"{compiled.entry} {words}", hint=OTHER_FILES)


def _runner(session: Any, compiled: CompiledModel, options: RunOptions, device: str) -> OnnxRuntimeRunner:
    numbers = all(spec.dtype in _NUMBERS for spec in compiled.inputs)
    kind = ReusingRunner if options.reuse_outputs and device == "CPU" and numbers else OnnxRuntimeRunner
    return kind(session, compiled.inputs, compiled.outputs)


def session_options(options: RunOptions) -> Any:
    """Return the engine's options for ``options``; the same that a bare call must use to be compared with a runner."""
    engine = import_engine(TITLE, _EXTRA, "onnxruntime")
    session = engine.SessionOptions()
    session.log_severity_level = _FATAL
    for setting, value in native_settings("onnxruntime", options):
        if "." in setting:
            session.add_session_config_entry(setting, value)
        elif setting == "graph_optimization_level":
            session.graph_optimization_level = getattr(engine.GraphOptimizationLevel, value)
        else:
            setattr(session, setting, value)
    if options.pinning:
        _pin(session, options.threads)
    return session


def _pin(session: Any, threads: int | None) -> None:
    """Bind each thread to a core; the first is the caller's own, which the engine leaves alone.

    onnxruntime_session_options_config_keys.h, "session.intra_op_thread_affinities": processors count from 1.
    """
    cores = sorted(os.sched_getaffinity(0))
    count = min(threads or len(cores), len(cores))
    if count > 1:
        session.intra_op_num_threads = count
        affinities = ";".join(str(core + 1) for core in cores[1:count])
        session.add_session_config_entry("session.intra_op_thread_affinities", affinities)


def _open(
    path: Path,
    name: str,
    options: RunOptions,
    device: str,
    batch: tuple[str, int] | None = None,
    named: Named | None = None,
) -> Any:
    """Return a session; ``named`` is what the graph names, where that was read already."""
    engine = import_engine(TITLE, _EXTRA, "onnxruntime")
    provider = _CPU if device == "CPU" else device
    if provider not in engine.get_available_providers():
        here = ", ".join("CPU" if p == _CPU else p for p in engine.get_available_providers())
        raise ToolchainError(
            f"this {TITLE} has no {device}; it has {here}",
            hint="use one of these devices, or install the package of ONNX Runtime that brings it",
        )
    named = named or named_in(path)
    try:
        settings = session_options(options)
        if batch is not None:
            settings.add_free_dimension_override_by_name(*batch)
        leave_out(settings, named)
        # A second try on the CPU, which it announces on standard output, is for other providers that do not start.
        again = int(provider != _CPU)
        session = engine.InferenceSession(str(path), settings, providers=[provider], enable_fallback=again)
    except Exception as error:
        _refused(name, error)
    if session.get_providers()[0] != provider:  # it falls back to the CPU when a provider does not start
        raise ToolchainError(
            f"{TITLE} could not start {device} on this machine", hint="check the driver of the device, or use the CPU"
        )
    return session


def _refused(name: str, error: Exception) -> NoReturn:
    raise CompileError(
        f"{TITLE} refused {name}: {engine_words(error)}",
        hint=remedy(
            error,
            "export the model again with another opset, or see which nodes it names with 'edgepack inspect MODEL'",
        ),
    ) from error


def _check_names(session: Any, compiled: CompiledModel) -> None:
    """Refuse files whose inputs or outputs are not those that were promised."""
    inputs, outputs = ({value.name for value in values} for values in (session.get_inputs(), session.get_outputs()))
    for kind, specs, names in (("inputs", compiled.inputs, inputs), ("outputs", compiled.outputs, outputs)):
        if {spec.name for spec in specs} != names:
            raise CompileError(
                f"{compiled.entry} has the {kind} {', '.join(sorted(names))}, "
                f"not {', '.join(sorted(spec.name for spec in specs))}",
                hint="the compiled files are of another model: compile it again",
            )


def _check_types(session: Any, compiled: CompiledModel) -> None:
    """Refuse a file that returns other types than were promised: who reads their bytes would get other numbers."""
    specs = {spec.name: spec for spec in compiled.outputs}
    for value in session.get_outputs():
        dtype = _ELEMENTS.get(value.type)  # None: a sequence, text
        if dtype is not None and dtype != specs[value.name].dtype:
            raise CompileError(
                f"{compiled.entry} returns {value.name!r} as {dtype}, not as {specs[value.name].dtype}",
                hint="the compiled files are of another model: compile it again",
            )


def _check_kernels(model: OnnxModel) -> list[Diagnostic]:
    """Return the nodes without a CPU kernel, unless the engine itself loads the model all the same."""
    from edgepack.engines.onnxruntime.supported import missing_kernels

    missing = missing_kernels(model.path)
    if missing:
        try:
            _open(model.path, model.path.name, RunOptions(), "CPU")
        except CompileError:
            return missing
    return []


def _check_order(model: OnnxModel) -> list[Diagnostic]:
    """Return the nodes that put int64 in a wrong order and that building does not write otherwise.

    Of an older opset it writes all, once it has raised that. A file that cannot be read has none.
    """
    from edgepack.graph.int64_order import LOWEST_OPSET, misordered, order_int64
    from edgepack.graph.load import read_proto
    from edgepack.graph.walk import describe_node

    try:
        proto = read_proto(model, weights=False)
    except ModelError:  # its kernels were not found either, which says so
        return []
    order_int64(proto)
    left = misordered(proto) if model.opset >= LOWEST_OPSET else ()
    return [
        Diagnostic(
            "warning",
            f"{TITLE} gets {node.op_type} of int64 beyond 2^31 wrong on x86",
            describe_node(node),
            "store its axes in the model as a constant",
        )
        for node in left
    ]
