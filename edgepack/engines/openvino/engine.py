"""OpenVINO: reads ONNX, writes its own ``model.xml`` and ``model.bin``, and runs them on a CPU, GPU or NPU.

- The requested precision is passed to the device: by default, a CPU with AMX or AVX512-BF16 computes float32 models in
  bfloat16, and a GPU in float16.
- What a device does not offer is computed in float32: asked for float16, a CPU with AVX-512 but without AVX512-FP16
  would silently take bfloat16. An int8 model's other layers run in float32 on a CPU and in float16 on a GPU.
- The weights keep the types they have in the graph given: nothing is compressed on the way.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.engines.common.fixed_batch import FixedBatchRunner, free_batch
from edgepack.engines.common.inputs import check_feeds, engine_words, refuse
from edgepack.engines.common.installed import engine_version, import_engine
from edgepack.engines.common.refusals import closed, opset_too_high, remedy, require_files
from edgepack.engines.common.weights import read_message
from edgepack.engines.native_options import native_settings, native_variables
from edgepack.engines.openvino.facts import ENGINE
from edgepack.engines.openvino.float32_inputs import SUFFIX, float32_inputs
from edgepack.engines.openvino.misread import misread_nodes
from edgepack.engines.openvino.range32 import EXACT, beyond
from edgepack.engines.openvino.ties import bodies, keep_order_of_equals
from edgepack.errors import CompileError, DataError, EdgepackError, ToolchainError
from edgepack.graph.integer_ranges import HIGHEST
from edgepack.specs.model import CompiledModel, Diagnostic, OnnxModel, TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target
from edgepack.specs.types import Array, Feeds, Precision

TITLE = ENGINE.title
ENTRY = "model.xml"
_WEIGHTS = "model.bin"
_EXTRA = ENGINE.extra

_LONG = ("int64", "uint64")
_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_REFUSED_NODES = ("ONNXFrameworkNode", "NotSupportedONNXNode")  # what the reader leaves where it cannot convert


class OpenVinoRunner:
    """One inference request. Inputs are read where they lie, outputs are copies: what a call returned stays valid.

    The engine's own output memory cannot be handed out: it is freed when a later call has larger outputs.
    With several threads (``parallel``) an inference is started and waited for: in OpenVINO 2026.4 the synchronous call
    lets the caller's thread take part instead of one of its own, which takes longer.
    """

    def __init__(
        self,
        compiled: Any,
        tensor: Any,
        inputs: tuple[TensorSpec, ...],
        names: tuple[str, ...],
        *,
        reuse: bool = False,
        parallel: bool = False,
    ) -> None:
        request = compiled.create_infer_request()
        self._compiled, self._reuse, self._parallel = compiled, reuse, parallel
        ports = request.model_inputs
        self._specs = inputs
        self._inputs = [(i, _spec_of(port, inputs).name, port.element_type.to_dtype()) for i, port in enumerate(ports)]
        named = {name: SUFFIX in "".join(ports[i].get_names()) for i, name, _ in self._inputs}
        self._wide = [(n, not named[n]) for _, n, dtype in self._inputs if dtype.name in _LONG or named[n]]
        self._count = len(ports)
        self._names = names
        self._request = request
        self._tensor = tensor
        self._set = request.set_input_tensor
        self._infer = _call_of(request, parallel=parallel)
        self._shapes: list[tuple[int, ...]] = []
        self._arrays: list[Array] = []  # with reuse: what the engine writes its outputs into
        # An integer input may become a shape inside, which then may fail though no input's shape changed.
        self._keeps_shapes = all(dtype.name not in ("int64", "int32") for _, _, dtype in self._inputs)

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name. Raises ``DataError`` for inputs that do not fit the model."""
        try:
            for name, exact in self._wide:
                if (value := beyond(feeds[name], exact=exact)) is not None:
                    self._refuse_wide(feeds, name, value, "32 bits" if exact else "float32")
            tensors, shapes = [], []  # the tensors keep the arrays alive that the engine reads
            for index, name, dtype in self._inputs:
                array = feeds[name]
                flags = array.flags
                if array.dtype != dtype or len(feeds) != self._count:
                    raise TypeError("wrong inputs")  # the handler finds out which
                if not (flags.c_contiguous and flags.writeable):
                    array = array.copy()
                tensor = self._tensor(array, True)
                self._set(index, tensor)
                tensors.append(tensor)
                shapes.append(array.shape)
            if shapes != self._shapes:
                results = self._infer_new(feeds, shapes)
            elif self._arrays:
                self._infer()
                return dict(zip(self._names, self._arrays, strict=True))
            else:
                results = self._infer()
            return {name: array.copy() for name, array in zip(self._names, results.values(), strict=False)}
        except EdgepackError:
            raise
        except Exception as error:
            refuse(TITLE, feeds, self._specs, error)

    def another(self) -> OpenVinoRunner:
        """Return a runner of the same compiled model, with a request of its own."""
        how = {"reuse": self._reuse, "parallel": self._parallel}
        return OpenVinoRunner(self._compiled, self._tensor, self._specs, self._names, **how)

    def close(self) -> None:
        """Free the request and the compiled model."""
        self._request = self._compiled = None
        self._arrays = []
        self._infer = self._set = self._tensor = closed

    def _refuse_wide(self, feeds: Feeds, name: str, value: int, how: str) -> NoReturn:
        """Refuse what the engine would change without a word; whatever else is wrong with the inputs comes first."""
        check_feeds(feeds, self._specs)
        limit = HIGHEST if how == "32 bits" else EXACT
        raise DataError(
            f"input {name!r} holds {value}, and {TITLE} computes its {feeds[name].dtype.name} in {how}",
            hint=f"give numbers of at most {limit} either way, or use a target with ONNX Runtime",
        )

    def _infer_new(self, feeds: Feeds, shapes: list[tuple[int, ...]]) -> Any:
        """Infer inputs of other shapes than before; from then on these are known to work, unless inputs make shapes.

        On one thread the synchronous call of OpenVINO 2026.4 loses the error when a layer does not take its shape, and
        returns memory that nobody wrote; the asynchronous one raises. Shapes that have worked cannot fail that way.
        """
        check_feeds(feeds, self._specs)
        self._shapes = []
        if self._arrays:
            self._renew()
        self._request.start_async()
        self._request.wait()
        self._shapes = shapes if self._keeps_shapes else []
        results = self._request.results
        return self._bind(results) if self._reuse and self._shapes else results

    def _renew(self) -> None:
        """Take a fresh request, whose outputs are not bound to the arrays of other shapes."""
        old, self._request, self._arrays = self._request, self._compiled.create_infer_request(), []
        for index in range(self._count):
            self._request.set_input_tensor(index, old.get_input_tensor(index))
        self._set, self._infer = self._request.set_input_tensor, _call_of(self._request, parallel=self._parallel)

    def _bind(self, results: Any) -> Any:
        """Let the engine write into arrays of the shapes that the outputs have now; return copies of what it made."""
        arrays = {port: array.copy() for port, array in results.items()}
        self._arrays = [np.empty_like(array) for array in arrays.values()]
        for index, array in enumerate(self._arrays):
            self._request.set_output_tensor(index, self._tensor(array, True))
        return arrays


def _call_of(request: Any, *, parallel: bool) -> Callable[[], Any]:
    """Return the function that infers what ``request`` holds and returns its outputs, which the next call changes."""
    if not parallel:
        return partial(request.infer, share_outputs=True)
    start, wait = request.start_async, request.wait

    def infer() -> Any:
        start()
        wait()
        return request.results

    return infer


def versions() -> Mapping[str, str]:
    """Return OpenVINO's version; the engine is not imported. Raises ``ToolchainError``."""
    return {"openvino": engine_version(TITLE, _EXTRA, "openvino", "openvino")}


def check(model: OnnxModel, target: Target) -> list[Diagnostic]:
    """Return what OpenVINO will refuse, or takes and computes wrongly: opset, operators, free shapes."""
    found = opset_too_high(TITLE, model, target)
    if _is_npu(target.engine.device):
        found += _check_shapes(model)
    return found + (_check_nodes(model) or misread_nodes(model))


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Write the model as ``model.xml`` and ``model.bin``; the same model gives the same bytes.

    For an NPU, which takes fixed shapes only, a free first dimension becomes 1. Raises ``CompileError``.
    """
    known = versions()
    device = target.engine.device
    if _is_npu(device) and precision == "fp32":
        raise CompileError("an NPU does not compute in float32", hint="use --precision fp16 or int8 for this target")
    if _is_npu(device) and (problems := [d for d in _check_shapes(model) if d.severity == "error"]):
        raise CompileError(problems[0].message, hint=problems[0].hint)
    engine = import_engine(TITLE, _EXTRA, "openvino")
    inputs, outputs = model.inputs, model.outputs
    try:
        with scratch_folder() as scratch:
            graph = _read(engine, _readable(model, precision, scratch))
            _match_ports(graph, model)
            if _is_npu(device):
                inputs, outputs = _fix_batch(graph, inputs), _fixed_outputs(outputs)
            keep_order_of_equals(graph)
            _say_limits(graph, model)
            _name_nodes(graph)
            out.mkdir(parents=True, exist_ok=True)
            engine.save_model(graph, out / ENTRY, compress_to_fp16=False)
    except EdgepackError:
        raise
    except Exception as error:
        _refused(model.path.name, error)
    return CompiledModel(
        backend="openvino",
        precision=precision,
        folder=out,
        entry=ENTRY,
        files=(ENTRY, _WEIGHTS),
        inputs=inputs,
        outputs=outputs,
        versions=known,
        device=device,
    )


def load_model(compiled: CompiledModel, options: RunOptions) -> OpenVinoRunner | FixedBatchRunner:
    """Load compiled files. Raises ``ToolchainError``, or ``CompileError`` when the engine refuses them."""
    device = options.device or compiled.device
    with _environment(native_variables("openvino", options, device)):
        return _load(compiled, options, device)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables, which the engine reads while it loads the first model of a process, and take them back."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _load(compiled: CompiledModel, options: RunOptions, device: str) -> OpenVinoRunner | FixedBatchRunner:
    engine = import_engine(TITLE, _EXTRA, "openvino")
    path = compiled.folder / compiled.entry
    require_files(compiled.folder, *compiled.files)
    core = engine.Core()
    _check_device(core, device)
    try:
        settings = device_settings(core, compiled.precision, device, options)
        reuse = bool(options.reuse_outputs) and device == "CPU" and _inputs_tell_outputs(core, path)
        batch = 1 if options.fixed_batch is None else options.fixed_batch
        fixed = with_batch(core, path, compiled.inputs, batch)
        model = core.compile_model(str(path) if fixed is None else fixed, device, settings)
        _check_types(model, compiled)
        names = tuple(spec.name for spec in _specs_of(model.outputs, compiled.outputs))
        parallel = device == "CPU" and model.get_property("INFERENCE_NUM_THREADS") > 1
        runner = OpenVinoRunner(model, engine.Tensor, compiled.inputs, names, reuse=reuse, parallel=parallel)
        if fixed is None:
            return runner
        general = dataclasses.replace(options, fixed_batch=0)
        return FixedBatchRunner(runner, lambda: load_model(compiled, general), batch)
    except EdgepackError:
        raise
    except Exception as error:
        _refused(compiled.entry, error)


def device_settings(core: Any, precision: Precision, device: str, options: RunOptions) -> dict[str, Any]:
    """Return the properties a model is loaded with; the same that a bare call must use to be compared with a runner.

    ``core`` is an ``openvino.Core``, which is asked what the device can compute in.
    """
    settings: dict[str, Any] = dict(native_settings("openvino", options, device))
    if not _is_npu(device):  # an NPU computes in what its compiler chooses
        others: Precision = "fp32" if device == "CPU" else "fp16"
        wanted = others if precision == "int8" else precision
        offered = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        settings["INFERENCE_PRECISION_HINT"] = _TYPES[wanted if wanted.upper() in offered else "fp32"]
    return settings


def with_batch(core: Any, path: Path, inputs: tuple[TensorSpec, ...], batch: int) -> Any:
    """Return the model with its free batch fixed; None for batch 0, where it is not free, or a layer does not take it.

    ``core`` is an ``openvino.Core``, ``path`` an IR with the inputs ``inputs``.
    """
    if not batch or not free_batch(inputs):
        return None
    model = core.read_model(str(path))
    try:
        shapes = {i: list(port.get_partial_shape())[1:] for i, port in enumerate(model.inputs)}
        model.reshape({i: [batch, *(size.get_length() for size in rest)] for i, rest in shapes.items()})
    except RuntimeError:
        return None
    return model


def _inputs_tell_outputs(core: Any, path: Path) -> bool:
    """Say whether the shapes of the inputs alone decide those of the outputs.

    Where values do, as in NonZero, OpenVINO 2026.4 keeps the shape of a bound output without a word.
    """
    model = core.read_model(str(path))
    shapes = [port.get_partial_shape() for port in model.inputs]
    if any(shape.rank.is_dynamic for shape in shapes):
        return False
    try:
        model.reshape({i: [d.get_length() if d.is_static else 1 for d in shape] for i, shape in enumerate(shapes)})
    except RuntimeError:
        return False
    return all(port.get_partial_shape().is_static for port in model.outputs)


def _readable(model: OnnxModel, precision: Precision, scratch: Path) -> Path:
    """Return the model's file, or one in ``scratch`` without what would be computed otherwise (``repairs.py``)."""
    from edgepack.engines.openvino.repairs import repair
    from edgepack.graph.load import read_proto, save_proto

    try:
        light = read_proto(model, weights=False)
    except (EdgepackError, ValueError):  # the engine's reader says what is wrong with it
        return model.path
    if not repair(light, int8=precision == "int8"):
        return model.path
    proto = read_proto(model)
    repair(proto, int8=precision == "int8")
    return save_proto(proto, scratch).path


def _read(engine: Any, path: Path) -> Any:
    """Read ONNX by the ONNX reader alone: the general one would try every other format on a file it does not know."""
    reader = engine.frontend.FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(str(path)))


def _match_ports(graph: Any, model: OnnxModel) -> None:
    """Refuse a graph with other inputs or outputs than the model: the reader takes an empty file for an empty model."""
    for kind, ports, specs in (("inputs", graph.inputs, model.inputs), ("outputs", graph.outputs, model.outputs)):
        if len(ports) != len(specs):
            raise CompileError(
                f"{TITLE} refused {model.path.name}: it reads {len(ports)} {kind} from it, not {len(specs)}",
                hint="the file is damaged or was changed: export the model again",
            )
        for port in ports:
            _spec_of(port, specs)


def _say_limits(graph: Any, model: OnnxModel) -> None:
    """Give a second name to the inputs whose whole numbers are computed in float32, for the runners."""
    rounded = set(float32_inputs(read_message(model.path)))
    for port in graph.inputs:
        name = _spec_of(port, model.inputs).name
        if name in rounded:
            port.get_tensor().add_names({name + SUFFIX})


def _name_nodes(graph: Any, prefix: str = "") -> None:
    """Name the nodes that the reader made by their order: its own names count on through the life of the process."""
    for number, node in enumerate(graph.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{prefix}{node.get_type_name()}#{number}")
        for body in bodies(node):
            _name_nodes(body, f"{prefix}{number}/")


def _check_device(core: Any, device: str) -> None:
    if device == "CPU":
        return
    here = list(core.available_devices)
    if not any(name == device or name.startswith(f"{device}.") for name in here):
        raise ToolchainError(
            f"OpenVINO finds no {device} on this machine; it finds {', '.join(here) or 'no device'}",
            hint="install the driver of the device, or use one of the devices found",
        )


def _check_nodes(model: OnnxModel) -> list[Diagnostic]:
    """Return the nodes that OpenVINO cannot read."""
    engine = import_engine(TITLE, _EXTRA, "openvino")
    try:
        reader = engine.frontend.FrontEndManager().load_by_framework("onnx")
        graph = reader.convert_partially(reader.load(str(model.path)))
    except Exception as error:  # its errors have no common base
        return [Diagnostic("error", f"{TITLE} cannot read the model: {engine_words(error)}")]
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() in _REFUSED_NODES]
    if not nodes:
        try:
            _match_ports(graph, model)
        except CompileError as error:
            return [Diagnostic("error", error.message, hint=error.hint)]
        return []
    reason = _why_not(reader, model)
    hint = "replace the operator in the model, or use a target with another engine"
    return [Diagnostic("error", reason, node.get_friendly_name(), hint) for node in nodes]


def _why_not(reader: Any, model: OnnxModel) -> str:
    """Return the engine's own words on why it does not convert a model."""
    try:
        reader.convert(reader.load(str(model.path)))
    except Exception as error:
        words = engine_words(error)
        return f"{TITLE} cannot convert the model: {words.partition('with OpConversionFailure: ')[2] or words}"
    return f"{TITLE} converts the model only in part"


def _check_shapes(model: OnnxModel) -> list[Diagnostic]:
    free = [spec for spec in model.inputs if any(isinstance(size, str) for size in spec.shape)]
    if not free:
        return []
    for spec in free:
        if any(isinstance(size, str) for size in spec.shape[1:]) or spec.shape == ("...",):
            return [
                Diagnostic(
                    "error",
                    f"an NPU takes fixed shapes only, and {spec.name} has {[*spec.shape]}",
                    hint="export the model with a fixed shape: --shape NAME=1,3,224,224",
                )
            ]
    names = ", ".join(spec.name for spec in free)
    return [Diagnostic("warning", f"an NPU takes fixed shapes only: the batch of {names} becomes 1")]


def _fix_batch(graph: Any, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    fixed = _fixed_outputs(inputs)
    shapes = {i: list(_spec_of(port, fixed).shape) for i, port in enumerate(graph.inputs)}
    graph.reshape(shapes)
    return fixed


def _fixed_outputs(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Return ``specs`` with a free first dimension set to 1."""
    return tuple(TensorSpec(s.name, s.dtype, (1, *s.shape[1:]) if s.batched else s.shape) for s in specs)


def _spec_of(port: Any, specs: tuple[TensorSpec, ...]) -> TensorSpec:
    """Return which of the promised inputs or outputs a port of the engine is."""
    names = port.get_names()
    for spec in specs:
        if spec.name in names:
            return spec
    raise CompileError(
        f"the compiled model has {', '.join(sorted(names)) or 'a tensor without a name'}, "
        f"not {', '.join(spec.name for spec in specs)}",
        hint="the compiled files are of another model: compile it again",
    )


def _specs_of(ports: Any, specs: tuple[TensorSpec, ...]) -> list[TensorSpec]:
    """Return the spec of each output: by name, or where copies of one tensor share a name, by place."""
    named = [_spec_of(port, specs) for port in ports]
    return [specs[place] if named.count(spec) > 1 else spec for place, spec in enumerate(named)]


def _check_types(model: Any, compiled: CompiledModel) -> None:
    """Refuse files that return other types than were promised: who reads their bytes would get other numbers."""
    for port, spec in zip(model.outputs, _specs_of(model.outputs, compiled.outputs), strict=True):
        dtype = port.element_type.to_dtype().name
        if dtype != spec.dtype:
            raise CompileError(
                f"{compiled.entry} returns {spec.name!r} as {dtype}, not as {spec.dtype}",
                hint="the compiled files are of another model: compile it again",
            )


def _is_npu(device: str) -> bool:
    return device.partition(".")[0] == "NPU"


def _refused(name: str, error: Exception) -> NoReturn:
    raise CompileError(
        f"{TITLE} refused {name}: {engine_words(error)}",
        hint=remedy(error, "replace the operator it names in the model, or use a target with another engine"),
    ) from error
