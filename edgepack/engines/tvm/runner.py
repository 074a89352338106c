"""Runs a compiled TVM model with numpy and TVM's two runtime libraries; TVM's Python package is not needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepack.base.shapes import show_shape
from edgepack.device import amx
from edgepack.device.host import host_facts
from edgepack.engines.common.inputs import check_feeds, engine_words, refuse
from edgepack.engines.common.refusals import closed, require_files
from edgepack.engines.native_options import native_variables
from edgepack.engines.tvm.elf import machine_of
from edgepack.engines.tvm.facts import ENGINE
from edgepack.engines.tvm.interface import AMX, FILE, Interface, read_interface
from edgepack.engines.tvm.runtime_abi import Handle, InputTensor, Runtime, TvmError, find_runtime
from edgepack.errors import CompileError, EdgepackError, ToolchainError

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.run import RunOptions
    from edgepack.specs.types import Array, Feeds

TITLE = ENGINE.title
MODEL = "model.so"
_CPU = 1
_POOLED = 2  # tvm/runtime/memory/memory_manager.h: AllocatorType::kPooled
_BIG_CORES = 1  # ThreadGroup::kBig
_KEPT_SHAPES = 4

Prepared: TypeAlias = tuple[list[InputTensor], tuple[Any, ...]]


@dataclass(frozen=True)
class Library:
    """A loaded ``model.so``."""

    runtime: Runtime
    module: Handle
    interface: Interface
    threads: int

    def start(self) -> Handle:
        """Return the function ``main`` of a new virtual machine, for the thread that asks: workers are a thread's."""
        self.runtime.call(self.runtime.function("runtime.config_threadpool"), _BIG_CORES, self.threads)
        machine = self.runtime.call(self.runtime.member(self.module, "vm_load_executable"))
        self.runtime.call(self.runtime.member(machine, "vm_initialization"), _CPU, 0, _POOLED)
        return self.runtime.member(machine, "main")


class TvmRunner:
    """A model in a virtual machine of its own. Inputs are copied into aligned memory, outputs out of it."""

    def __init__(
        self,
        library: Library,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        reuse_outputs: bool = False,
    ) -> None:
        self._library, self._interface = library, library.interface
        self._runtime = library.runtime
        self._main: Any = library.start()
        self._specs, self._outputs = inputs, outputs
        self._names = [spec.name for spec in outputs]
        self._reuse = reuse_outputs
        self._kept: list[Array] = []
        self._tensors: dict[tuple[tuple[int, ...], ...], Prepared] = {}
        self._order: list[tuple[str, Array]] = []
        self._fixed = self._interface.batch != "free"
        if self._fixed:
            self._ready = self._prepare(tuple(_sizes(spec) for spec in self._interface.inputs))
            pairs = zip(self._interface.inputs, self._ready[0], strict=True)
            self._order = [(spec.name, tensor.array) for spec, tensor in pairs]

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name. Raises ``DataError`` for inputs that do not fit the model."""
        if self._main is None:
            closed()
        try:
            if not self._fixed:
                return self._infer_free(feeds)
            for name, array in self._order:
                given = feeds[name]
                if given.shape != array.shape or given.dtype != array.dtype or len(feeds) != len(self._order):
                    return self._infer_other(feeds)
                array[...] = given
            return self._call(self._ready[1])
        except EdgepackError:
            raise
        except Exception as error:
            refuse(TITLE, feeds, self._specs, error)

    def another(self) -> TvmRunner:
        """Return a runner with a virtual machine of its own on the same library, for another thread."""
        return TvmRunner(self._library, self._specs, self._outputs, reuse_outputs=self._reuse)

    def close(self) -> None:
        """Free the virtual machine and the inputs."""
        self._main = None
        self._tensors.clear()

    def _call(self, packed: tuple[Any, ...]) -> dict[str, Array]:
        arrays = self._runtime.arrays(self._runtime.run(self._main, *packed), self._kept)
        if self._reuse:
            self._kept = arrays
        return dict(zip(self._names, arrays, strict=True))

    def _infer_other(self, feeds: Feeds) -> Mapping[str, Array]:
        """Infer another batch than the one compiled for, sample by sample; refuse what does not fit."""
        check_feeds(feeds, self._specs)
        if self._interface.batch != "looped":
            fixed = ", ".join(f"{spec.name} {show_shape(spec.shape)}" for spec in self._interface.inputs)
            raise ValueError(f"it was compiled for {fixed}")
        looped = [(n, array, spec.batched) for (n, array), spec in zip(self._order, self._specs, strict=True)]
        (count, *others) = {feeds[name].shape[0] for name, _, batched in looped if batched}
        if others:
            raise ValueError("the inputs have batches of different sizes")
        results = []
        for i in range(count):
            for name, array, batched in looped:
                array[...] = feeds[name][i : i + 1] if batched else feeds[name]
            results.append(self._runtime.arrays(self._runtime.run(self._main, *self._ready[1])))
        return {
            spec.name: _joined(spec, [result[index] for result in results])
            for index, spec in enumerate(self._interface.outputs)
        }

    def _infer_free(self, feeds: Feeds) -> Mapping[str, Array]:
        check_feeds(feeds, self._specs)
        shapes = tuple(feeds[spec.name].shape for spec in self._interface.inputs)
        tensors, packed = self._tensors.get(shapes) or self._prepare(shapes)
        for spec, tensor in zip(self._interface.inputs, tensors, strict=True):
            tensor.array[...] = feeds[spec.name]
        return self._call(packed)

    def _prepare(self, shapes: tuple[tuple[int, ...], ...]) -> Prepared:
        """Make inputs of these shapes; those of the last few shapes are kept."""
        pairs = zip(self._interface.inputs, shapes, strict=True)
        tensors = [InputTensor(self._runtime, shape, spec.dtype) for spec, shape in pairs]
        prepared = tensors, self._runtime.pack(*(tensor.handle for tensor in tensors))
        while len(self._tensors) >= _KEPT_SHAPES:
            self._tensors.pop(next(iter(self._tensors)))
        self._tensors[shapes] = prepared
        return prepared


def load_runner(
    folder: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], options: RunOptions
) -> TvmRunner:
    """Load the compiled model in ``folder``. Raises ``CompileError`` or ``ToolchainError``."""
    interface = _read(folder)
    _check_names(interface, inputs, outputs)
    host = host_facts()
    found = machine_of(folder / MODEL)
    if found != host.arch:
        raise ToolchainError(
            f"{MODEL} is machine code for {found}; this machine is {host.arch}",
            hint=f"run it on {found}, or compile for this machine with --target host-tvm",
        )
    if interface.needs == AMX and not amx.request():
        raise ToolchainError(
            f"{MODEL} needs AMX, which this processor or its Linux does not give ({host.cpu}, Linux {host.kernel})",
            hint="run it on a processor with AMX and Linux 5.16 or newer, or compile for this machine",
        )
    threads = options.threads or min(interface.threads or host.cores, host.cores)
    os.environ["TVM_NUM_THREADS"] = str(threads)  # read when a thread makes its pool of workers
    os.environ.update(native_variables("tvm", options))
    runtime = find_runtime(folder)
    try:
        library = Library(runtime, runtime.load(folder / MODEL), interface, threads)
        return TvmRunner(library, inputs, outputs, reuse_outputs=bool(options.reuse_outputs))
    except TvmError as error:
        raise CompileError(f"TVM refused {MODEL}: {engine_words(error)}", hint="compile the model again") from error


def _read(folder: Path) -> Interface:
    require_files(folder, MODEL, FILE)
    return read_interface((folder / FILE).read_bytes())


def _check_names(interface: Interface, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Refuse files whose inputs or outputs are not those that were promised."""
    pairs = (("inputs", interface.inputs, inputs), ("outputs", interface.outputs, outputs))
    for kind, found, wanted in pairs:
        if [(s.name, s.dtype) for s in found] != [(s.name, s.dtype) for s in wanted]:
            raise CompileError(
                f"{MODEL} has the {kind} {_typed(found)}, not {_typed(wanted)}",
                hint="the compiled files are of another model: compile it again",
            )


def _typed(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} ({spec.dtype})" for spec in specs)


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    if any(isinstance(extent, str) for extent in spec.shape):
        raise CompileError(f"TVM refused {FILE}: {spec.name} has a free extent", hint="compile the model again")
    return tuple(int(extent) for extent in spec.shape)


def _joined(spec: TensorSpec, pieces: list[Array]) -> Array:
    if pieces:
        return np.concatenate(pieces)
    return np.empty((0, *(extent if isinstance(extent, int) else 0 for extent in spec.shape[1:])), spec.dtype)
