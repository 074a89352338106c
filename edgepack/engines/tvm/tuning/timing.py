"""Times one kernel with several tiles: built alone with what is usually fused behind it, each tile in turn with all.

A kernel's time depends on its sizes and its tile, not on the model it is in, so that what is measured here serves every
model. Weights come from further away than the first caches, as they do in a model: every call has its own copy of them,
more copies than the second-level cache holds.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgepack.engines.tvm.codegen import compute, intrinsics, stack, winograd
from edgepack.engines.tvm.codegen.legalize import intrinsic
from edgepack.engines.tvm.codegen.machine import Machine
from edgepack.engines.tvm.codegen.schedules import schedule
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Choice, Workload
from edgepack.engines.tvm.installed import import_tvm

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "kernel"
_ROUND_NS = 3_000_000  # at least so much is timed at once: a thousand times the clock's resolution and a call's cost
_MOST_CALLS = 1000
_COPIES_BYTES = 64 << 20
_MOST_COPIES = 16
# Rounds after which the slower half is left out, and the rounds of those that remain.
_HALVES = (3, 6)
ROUNDS = 13


@dataclass(frozen=True)
class Timed:
    """What one tile took: nanoseconds a call in each round that it took part in; or why it cannot be had."""

    tile: Blocking
    ns: tuple[float, ...] = ()
    failure: str | None = None


class Device(Protocol):
    """Where kernels are timed."""

    def load(self, library: Any, shapes: list[tuple[tuple[int, ...], str]], copies: int) -> Callable[[int], float]:
        """Return a function that calls the kernel so often and returns the nanoseconds of one call."""


def time_tiles(workload: Workload, tiles: tuple[Blocking, ...], machine: Machine, device: Device) -> tuple[Timed, ...]:
    """Return the times of the tiles in their order; the first, against which the others count, is in every round.

    What cannot be built has a failure; where the first cannot, all have.
    """
    ran: list[Callable[[int], float] | None] = []
    failures: dict[int, str] = {}
    for number, tile in enumerate(tiles):
        try:
            ran.append(_load(workload, tile, machine, device))
        except Exception as error:  # TVM's errors have no common base
            text = str(error).strip()
            failures[number] = text.splitlines()[-1][:200] if text else type(error).__name__
            ran.append(None)
    times: list[list[float]] = [[] for _ in tiles]
    alive = [number for number in range(len(tiles)) if number not in failures]
    if 0 not in alive:
        return tuple(Timed(tile, failure=failures.get(n, failures[0])) for n, tile in enumerate(tiles))
    calls: dict[int, int] = {}
    for turn in range(ROUNDS):
        order = alive if turn % 2 else alive[::-1]
        for number in order:
            run = ran[number]
            assert run is not None
            if number not in calls:
                calls[number] = max(1, min(_MOST_CALLS, math.ceil(_ROUND_NS / max(run(1), 1.0))))
            times[number].append(run(calls[number]))
        if turn + 1 in _HALVES and len(alive) > 3:
            best = sorted(alive[1:], key=lambda n: min(times[n]))[: max(2, (len(alive) - 1) // 2)]
            alive = [0, *sorted(best)]
    return tuple(Timed(tile, tuple(times[n]), failures.get(n)) for n, tile in enumerate(tiles))


def _load(workload: Workload, tile: Blocking, machine: Machine, device: Device) -> Callable[[int], float]:
    tvm = import_tvm()
    function, shapes = function_of(workload, Choice(tile), machine)
    built_for = tvm.target.Target(machine.target())
    library = tvm.compile(tvm.IRModule({NAME: function}), target=built_for, tir_pipeline=stack.pipeline())
    weights_bytes = math.prod(shapes[1][0]) * np.dtype(shapes[1][1]).itemsize
    copies = max(1, min(_MOST_COPIES, _COPIES_BYTES // weights_bytes, -(-2 * machine.l2_bytes // weights_bytes)))
    return device.load(library, shapes, copies)


def function_of(workload: Workload, choice: Choice, machine: Machine) -> tuple[Any, list[tuple[tuple[int, ...], str]]]:
    """Return the arranged function and the shapes and types of its arguments: input, weights, bias, output.

    Behind the sums: a bias and a ReLU, or for int8 a bias and the quantization to the type of the activations.
    """
    te = import_tvm("tvm.te")
    tirx = import_tvm("tvm.tirx")
    target = import_tvm("tvm.target")
    name, fours = intrinsic(workload, choice.tile, machine)
    activation, kind, sums = workload.types
    x_shape, w_shape = _shapes(workload, choice.tile, fours=fours)
    with target.Target(machine.target()):
        x, w = te.placeholder(x_shape, activation, "x"), te.placeholder(w_shape, kind, "w")
        result = _build(workload, choice, name)(x, w)
        bias = te.placeholder((workload.outputs,), sums, "bias")

        def last(*index: Any) -> Any:
            value = result[index] + bias[index[-1]]
            if activation == "float32":
                return te.max(value, tirx.const(0, sums))
            scaled = tirx.round(value.astype("float32") * tirx.const(0.01, "float32"))
            low, high = (0, 255) if activation == "uint8" else (-128, 127)
            return te.max(te.min(scaled, tirx.const(high, "float32")), tirx.const(low, "float32")).astype(activation)

        out = te.compute(result.shape, last, name="last")
        function = te.create_prim_func([x, w, bias, out]).with_attr("global_symbol", NAME)
        arranged, _ = schedule(function, machine)
    out_shape = tuple(int(size) for size in out.shape)
    shapes = [(x_shape, activation), (w_shape, kind), ((workload.outputs,), sums), (out_shape, activation)]
    return arranged.with_attr("global_symbol", NAME), shapes


def _build(workload: Workload, choice: Choice, name: str | None) -> compute.Build:
    sums = workload.types[2]
    if workload.kind == "flat":
        return compute.pointwise(choice, workload.outputs, sums, name)
    if workload.kind == "depthwise":
        return compute.depthwise(choice, workload.window)
    if workload.kind == "batched":
        return compute.batched(choice)
    if workload.kind == "winograd":
        return winograd.convolution(choice, workload.window, workload.outputs)
    return compute.convolution(
        choice, workload.window, workload.outputs, sums, name, channels_first=workload.channels_first
    )


def _shapes(workload: Workload, tile: Blocking, *, fours: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the input and of the packed weights."""
    terms, outputs = workload.inputs, workload.outputs
    if workload.kind == "flat":
        packed = compute.pack_weights(np.zeros((outputs, terms), np.int8), tile.channels, fours=fours)
        return (workload.width, terms), packed.shape
    if workload.kind == "batched":
        return (workload.batch, workload.width, terms), (workload.batch, terms, outputs)
    top, left, bottom, right = workload.padding
    places = []
    for axis, (size, before, after) in enumerate(((workload.height, top, bottom), (workload.width, left, right))):
        reach = (size - 1) * workload.strides[axis] + workload.dilation[axis] * (workload.kernel[axis] - 1) + 1
        places.append(max(reach - before - after, 1))
    channels = workload.inputs * workload.groups
    shape = (workload.batch, *places, channels)
    if workload.channels_first:
        shape = (workload.batch, channels, *places)
    if workload.kind == "depthwise":
        return shape, (*workload.kernel, outputs)
    if workload.kind == "winograd":
        return shape, winograd.pack(np.zeros((outputs, *workload.kernel, terms), np.float32), tile.channels).shape
    packed = compute.pack_weights(np.zeros((outputs, *workload.kernel, terms), np.int8), tile.channels, fours=fours)
    return shape, packed.shape


def values(shape: tuple[int, ...], dtype: str) -> Any:
    """Return an array to compute with, the same each time; of int8 no two neighbours exceed ``dot.PAIR_LIMIT``."""
    draw = np.random.default_rng(0)
    if dtype == "float32":
        return draw.standard_normal(shape, dtype=np.float32)
    if dtype == "uint8":
        return draw.integers(0, 256, shape, dtype=np.uint8)
    limit = intrinsics.PAIR_LIMIT // 2
    return draw.integers(-limit, limit, shape).astype(dtype)


class Here:
    """The host, in the calling process: CPU time of the thread where there is one, else time passed."""

    def __init__(self, threads: int) -> None:
        self._clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns

    def load(self, library: Any, shapes: list[tuple[tuple[int, ...], str]], copies: int) -> Callable[[int], float]:
        """Return a function that calls the kernel so often and returns the nanoseconds of one call."""
        runtime = import_tvm("tvm.runtime")
        kernel = library[NAME]
        arrays = [runtime.tensor(values(shape, dtype)) for shape, dtype in shapes]
        weights = [runtime.tensor(arrays[1].numpy()) for _ in range(copies)]
        clock = self._clock

        def run(calls: int) -> float:
            x, _, bias, out = arrays
            begin = clock()
            for number in range(calls):
                kernel(x, weights[number % copies], bias, out)
            return (clock() - begin) / calls

        run(min(copies, 2))
        return run


def time_here(workload: Workload, tiles: tuple[Blocking, ...], machine: Machine) -> tuple[Timed, ...]:
    """``time_tiles`` on this host; to be called in a child process with ``TVM_NUM_THREADS`` set."""
    return time_tiles(workload, tiles, machine, Here(machine.threads))
