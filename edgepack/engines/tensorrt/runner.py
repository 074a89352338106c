"""Runs an engine: named tensors, pinned host buffers, one stream, and a CUDA graph where all shapes are fixed.

All memory is allocated once, for the largest shapes of the profile. Outputs are views of pinned memory that the next
call overwrites.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.engines.common.inputs import check_feeds
from edgepack.engines.common.refusals import closed
from edgepack.engines.tensorrt.builder import make_logger
from edgepack.engines.tensorrt.cuda import Cuda, CudaError, load_cuda
from edgepack.engines.tensorrt.device import import_tensorrt
from edgepack.engines.tensorrt.recipe import EngineRecipe, InputShapes
from edgepack.errors import CompileError, DataError, EdgepackError
from edgepack.specs.model import CompiledModel, TensorSpec
from edgepack.specs.types import Array, Feeds

# TensorRT's names of types; the bindings' own nptype() raises for those that numpy lacks.
_TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


@dataclass
class _Tensor:
    """An input or output: its buffers on both sides, sized for its largest shape, and the shape it has now."""

    name: str
    dtype: np.dtype[Any]
    wanted: np.dtype[Any]
    size_bytes: int
    device: int
    pinned: int
    memory: Array
    shape: tuple[int, ...] = ()

    def view(self) -> Array:
        """Return the pinned memory as an array of the present shape."""
        count = math.prod(self.shape)
        return self.memory[: count * self.dtype.itemsize].view(self.dtype).reshape(self.shape)

    @property
    def used_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class TensorRtRunner:
    """An engine with its buffers. ``graph`` says whether a CUDA graph runs it, and if not why."""

    def __init__(self, trt: Any, runtime: Any, engine: Any, recipe: EngineRecipe, compiled: CompiledModel) -> None:
        self._cuda: Cuda = load_cuda()
        # The engine needs its runtime, and that its logger, as long as it lives.
        self._keep: tuple[Any, ...] = (trt, runtime)
        self._engine, self._made_of = engine, (recipe, compiled)
        self._specs = compiled.inputs
        self._limits = {shapes.name: shapes for shapes in recipe.inputs}
        self._context = engine.create_execution_context()
        if self._context is None:
            raise CompileError(
                "TensorRT has no memory to run the engine in", hint="stop other programs that use the GPU"
            )
        self._stream = self._cuda.create_stream()
        self._inputs: list[_Tensor] = []
        self._outputs: list[_Tensor] = []
        self._launchable = 0
        self.graph = "not captured: shapes are dynamic"
        try:
            self._allocate(trt, compiled)
            if recipe.is_static:
                self._capture()
        except BaseException:
            self.close()
            raise

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name, views that the next call overwrites.

        Raises ``DataError`` for inputs that do not fit the model or lie outside the engine's shapes.
        """
        if self._context is None:
            closed()
        self._take(feeds)
        if self._launchable:
            self._cuda.launch(self._launchable, self._stream)
        else:
            self._issue()
        self._cuda.synchronize(self._stream)
        return {tensor.name: _as_wanted(tensor) for tensor in self._outputs}

    def another(self) -> TensorRtRunner:
        """Return a runner of the same engine with a context, buffers and a stream of its own, for another thread."""
        trt, runtime = self._keep
        return TensorRtRunner(trt, runtime, self._engine, *self._made_of)

    def close(self) -> None:
        """Free everything; the runner cannot be used afterwards."""
        cuda = self._cuda
        if self._launchable:
            cuda.destroy_graph(self._launchable)
        for tensor in (*self._inputs, *self._outputs):
            tensor.memory = np.zeros(0, np.uint8)
            cuda.free_pinned(tensor.pinned)
            cuda.free(tensor.device)
        if self._stream:
            cuda.destroy_stream(self._stream)
        self._inputs, self._outputs, self._launchable, self._stream = [], [], 0, 0
        self._context = self._engine = None
        self._keep = ()

    # --- buffers ------------------------------------------------------------------------------------------------------

    def _allocate(self, trt: Any, compiled: CompiledModel) -> None:
        """Set every input to its largest shape, then allocate what all tensors need there."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        outputs = [n for n in names if n not in inputs]
        _check_names(compiled.inputs, inputs, "inputs")
        _check_names(compiled.outputs, outputs, "outputs")
        for name in inputs:
            if self._engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise CompileError(
                    f"the input {name!r} decides shapes inside the model, which TensorRT needs on the host",
                    hint="export the model with this input as a constant",
                )
            self._set_shape(name, self._limits[name].maximum)
        for spec in compiled.inputs:
            self._inputs.append(self._tensor(spec, self._limits[spec.name].maximum))
        for spec in compiled.outputs:
            shape = tuple(self._context.get_tensor_shape(spec.name))
            if any(size < 0 for size in shape):
                raise CompileError(
                    f"the shape of the output {spec.name!r} depends on the data",
                    hint="let the model return a fixed number of results, padded",
                )
            self._outputs.append(self._tensor(spec, shape))
        for tensor in (*self._inputs, *self._outputs):
            if not self._context.set_tensor_address(tensor.name, tensor.device):
                raise CompileError(f"TensorRT does not take the memory of {tensor.name!r}")

    def _tensor(self, spec: TensorSpec, shape: tuple[int, ...]) -> _Tensor:
        kind = self._engine.get_tensor_dtype(spec.name).name
        if kind not in _TYPES:
            raise CompileError(f"{spec.name!r} has TensorRT's type {kind}, which numpy does not have")
        dtype = np.dtype(_TYPES[kind])
        size = max(1, math.prod(shape)) * dtype.itemsize
        device = self._cuda.allocate(size)
        try:
            pinned = self._cuda.allocate_pinned(size)
        except CudaError:
            self._cuda.free(device)
            raise
        memory = np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(pinned)), np.uint8)
        memory[:] = 0
        return _Tensor(spec.name, dtype, np.dtype(spec.dtype), size, device, pinned, memory, tuple(shape))

    # --- one call -----------------------------------------------------------------------------------------------------

    def _take(self, feeds: Feeds) -> None:
        """Check the inputs and copy them into pinned memory."""
        changed = False
        for tensor in self._inputs:
            array = self._feed(feeds, tensor)
            if array.shape != tensor.shape:
                self._check_limits(tensor.name, array.shape)
                self._set_shape(tensor.name, array.shape)
                tensor.shape = array.shape
                changed = True
            np.copyto(tensor.view(), array, casting="same_kind")
        if len(feeds) != len(self._inputs):
            check_feeds(feeds, self._specs)
        if changed:
            for tensor in self._outputs:
                tensor.shape = tuple(self._context.get_tensor_shape(tensor.name))

    def _feed(self, feeds: Feeds, tensor: _Tensor) -> Array:
        try:
            array = feeds[tensor.name]
            fits = array.dtype == tensor.wanted
        except Exception:
            check_feeds(feeds, self._specs)
            raise
        if not fits or len(array.shape) != len(self._limits[tensor.name].maximum):
            check_feeds(feeds, self._specs)
            raise DataError(f"input {tensor.name!r} does not fit the engine", hint="see 'edgepack inspect BUNDLE'")
        if tensor.dtype != tensor.wanted:  # int64 where the engine has 32 bits
            _check_range(tensor, array)
        return array

    def _check_limits(self, name: str, shape: tuple[int, ...]) -> None:
        limits: InputShapes = self._limits[name]
        inside = all(low <= size <= high for low, size, high in zip(limits.minimum, shape, limits.maximum, strict=True))
        if not inside:
            raise DataError(
                f"input {name!r} has shape {list(shape)}; the engine takes {list(limits.minimum)} to "
                f"{list(limits.maximum)}",
                hint="give it in smaller pieces, or build the bundle with the --shape that you need",
            )

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, tuple(shape)):
            raise DataError(f"TensorRT does not take the shape {list(shape)} for {name!r}")

    def _issue(self) -> None:
        """Begin the copies in, the engine and the copies out on the stream."""
        for tensor in self._inputs:
            self._cuda.copy_in(tensor.device, tensor.pinned, tensor.used_bytes, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise EdgepackError("TensorRT did not run the engine", hint="see the driver's messages in 'dmesg'")
        for tensor in self._outputs:
            self._cuda.copy_out(tensor.pinned, tensor.device, tensor.used_bytes, self._stream)

    def _capture(self) -> None:
        """Record one call as a CUDA graph; engines that cannot be recorded are run call by call.

        TensorRT wants one call before a recording (its documentation, CUDA graphs): it sets up memory then.
        """
        self._issue()
        self._cuda.synchronize(self._stream)
        try:
            self._cuda.begin_capture(self._stream)
            self._issue()
            self._launchable = self._cuda.end_capture(self._stream)
        except EdgepackError as error:
            self._cuda.abandon_capture(self._stream)
            self.graph = f"not captured: {error.message}"
            return
        self.graph = "captured"


def open_runner(plan: Path, recipe: EngineRecipe, compiled: CompiledModel) -> TensorRtRunner | None:
    """Return the runner of a bare plan file; None when TensorRT does not deserialize it."""
    trt = import_tensorrt()
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    if recipe.dla_core is not None:
        runtime.DLA_core = recipe.dla_core
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        return None
    return TensorRtRunner(trt, runtime, engine, recipe, compiled)


def _check_names(specs: tuple[TensorSpec, ...], names: list[str], kind: str) -> None:
    if {spec.name for spec in specs} != set(names):
        raise CompileError(
            f"the engine has the {kind} {', '.join(sorted(names))}, "
            f"not {', '.join(sorted(spec.name for spec in specs))}",
            hint="the engine is of another model: compile it again",
        )


def _check_range(tensor: _Tensor, array: Array) -> None:
    if tensor.dtype.kind not in "iu" or not array.size:
        return
    limits = np.iinfo(tensor.dtype)
    if array.min() < limits.min or array.max() > limits.max:
        raise DataError(
            f"input {tensor.name!r} holds {int(array.max())}, and this TensorRT computes whole numbers in 32 bits",
            hint="give smaller numbers, or use a device with TensorRT 10",
        )


def _as_wanted(tensor: _Tensor) -> Array:
    array = tensor.view()
    return array if tensor.dtype == tensor.wanted else array.astype(tensor.wanted)
