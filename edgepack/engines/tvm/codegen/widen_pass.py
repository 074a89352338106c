"""Lets a quantized convolution of one position read every channel where it read every n-th: the others weigh zero.

A slice of channels is a pass over memory, value by value, which takes as long as several such convolutions in int8:
these multiply twice as many channels in less time. The sums are the same whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.relax_util import constant, rebuilt, rewritten, shape_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.specs.types import Array

# Of what is sliced: 0.19 ns for each byte on a Xeon with AVX-512, in slices of 24, 48 and 96 channels.
_SLICE_CYCLES = 0.5
_TILE_PRODUCTS = 1024  # of bytes, in a cycle of AMX; vectors are multiplied twice in a cycle
_CHANNELS = 1
_BYTES = ("uint8", "int8")
_SLICE_ARGUMENTS = 5  # what is sliced, axes, first, last, steps


def without_slices(function: Any, machine: Machine) -> Any:
    """Return a straight function in Q/DQ form without the slices for which that is quicker."""
    return rebuilt(function, lambda builder, bindings: _emit(builder, bindings, machine))


def _emit(builder: Any, bindings: Any, machine: Machine) -> Callable[[Any], Any]:
    finder = _Finder(bindings, machine)
    made: dict[Any, Any] = {}

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    for binding in bindings:
        found = finder.slice_before(binding.value)
        value = rewritten(binding.value, form) if found is None else _widened(builder, binding.value, *found, form)
        made[binding.var] = builder.emit(value)
    return form


class _Finder:
    """Finds the slices of a function's bindings that are not worth it."""

    def __init__(self, bindings: Any, machine: Machine) -> None:
        self._values: dict[Any, Any] = {binding.var: binding.value for binding in bindings}
        self._read = _times_read(bindings)
        self._machine = machine

    def slice_before(self, call: Any) -> tuple[Any, Any, Any] | None:
        """Return the slice that a convolution reads, dequantized, and both calls of dequantize; None without one."""
        if not _is(call, "relax.nn.conv2d") or int(call.attrs.groups) != 1:
            return None
        x: Any = self._values.get(call.args[0])
        weights: Any = self._values.get(call.args[1])
        if not _is(x, "relax.dequantize") or not _is(weights, "relax.dequantize") or int(weights.attrs.axis) != 0:
            return None
        scale, integers, zero = constant(x.args[1]), constant(weights.args[0]), constant(weights.args[2])
        if scale is None or scale.ndim or integers is None or integers.shape[2:] != (1, 1):
            return None
        cut = self._values.get(x.args[0])
        if zero is None or np.any(zero) or _channels(cut) is None:
            return None
        once = self._read[call.args[0]] == self._read[x.args[0]] == 1
        return (cut, x, weights) if once and _pays(cut, integers.shape[0], self._machine) else None


def _widened(builder: Any, call: Any, cut: Any, x: Any, weights: Any, form: Callable[[Any], Any]) -> Any:
    """Return the convolution of everything that a slice is of."""
    from tvm import relax

    integers, chosen = np.asarray(constant(weights.args[0])), _channels(cut)
    wide = np.zeros((integers.shape[0], (shape_of(cut.args[0]) or ())[_CHANNELS], 1, 1), integers.dtype)
    wide[:, chosen] = integers
    whole = builder.emit(relax.Call(x.op, [form(cut.args[0]), *x.args[1:]], x.attrs, x.ty_args))
    kernel = builder.emit(relax.Call(weights.op, [stored(wide), *weights.args[1:]], weights.attrs, weights.ty_args))
    return relax.Call(call.op, [whole, kernel], call.attrs, call.ty_args)


def _channels(cut: Any) -> Array | None:
    """Return the channels that a slice takes of a picture of bytes; None where they are neighbours, or for others."""
    if (
        not _is(cut, "relax.strided_slice")
        or len(cut.args) != _SLICE_ARGUMENTS
        or str(cut.args[0].ty.dtype) not in _BYTES
    ):
        return None
    axes, first, last, step = ([int(field.value) for field in argument.fields] for argument in cut.args[1:])
    shape = shape_of(cut.args[0])
    if axes != [_CHANNELS] or step[0] < 2 or shape is None:
        return None
    return np.arange(shape[_CHANNELS])[first[0] : last[0] : step[0]]


def _pays(cut: Any, outputs: int, machine: Machine) -> bool:
    """Say whether products with zero take fewer cycles than the slice."""
    rate = _TILE_PRODUCTS if machine.has_amx else 2 * machine.lanes(bits=8)
    own, whole = ((shape_of(one) or ())[_CHANNELS] for one in (cut, cut.args[0]))
    return (whole - own) * outputs / rate < _SLICE_CYCLES * own


def _times_read(bindings: Any) -> dict[Any, int]:
    """Return how often each variable is read; what the function returns is read once more."""
    from tvm import relax

    found: dict[Any, int] = {}
    for binding in bindings:
        found.setdefault(binding.var, 0 if isinstance(binding.var, relax.DataflowVar) else 1)

        def note(variable: Any) -> Any:
            found[variable] = found.get(variable, 0) + 1
            return variable

        rewritten(binding.value, note)
    return found


def _is(value: Any, name: str) -> bool:
    return getattr(getattr(value, "op", None), "name", "") == name
