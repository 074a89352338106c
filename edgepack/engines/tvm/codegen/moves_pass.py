"""Makes one slice of channels of a chain that only moves values: the shuffles of ShuffleNet, as exporters write them.

Reshapes, transposes and reads of one index are followed as a map from each element to the place it comes from. Where
the map is that of every n-th channel of a picture, the slice replaces the chain. Q/DQ of one scale between them move
the integers; a concatenation that is quantized joins integers, each part quantized where it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.relax_util import constant, rebuilt, rewritten, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.types import Array

# Larger tensors are not followed: the map of their elements would take more memory than is worth it.
_MOST_ELEMENTS = 1 << 22
_CHANNELS = 1


@dataclass(frozen=True)
class Moved:
    """A tensor of values of ``source``: element i is its element ``places[i]``, ``scaled`` by what dequantizes it."""

    source: Any
    places: Array
    scaled: tuple[float, int] | None = None


def slices_of_channels(function: Any) -> Any:
    """Return a straight function with these chains replaced."""
    return rebuilt(rebuilt(function, _join_integers), _emit)


def _emit(builder: Any, bindings: Any) -> Callable[[Any], Any]:
    made: dict[Any, Any] = {}
    moves: dict[Any, Moved] = {}

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    for binding in bindings:
        value = rewritten(binding.value, form)
        move = _followed(binding.value, moves, shape_of(binding.var))
        if move is not None:
            moves[binding.var] = move
            slice_ = _replaced(move, form(move.source))
            value = value if slice_ is None else slice_
        made[binding.var] = builder.emit(value)
    return form


def _followed(value: Any, moves: dict[Any, Moved], shape: tuple[int, ...] | None) -> Moved | None:
    """Return where the elements of a call's result come from, where it only moves them."""
    name = getattr(getattr(value, "op", None), "name", "")
    if name not in _MOVES or shape is None:
        return None
    before = moves[value.args[0]] if value.args[0] in moves else _itself(value.args[0])
    return None if before is None else _MOVES[name](value, before, shape)


def _itself(variable: Any) -> Moved | None:
    from tvm import relax

    shape = shape_of(variable)
    if not isinstance(variable, relax.Var) or shape is None or not 0 < np.prod(shape) <= _MOST_ELEMENTS:
        return None
    return Moved(variable, np.arange(np.prod(shape), dtype=np.int32).reshape(shape))


def _reshape(_: Any, before: Moved, shape: tuple[int, ...]) -> Moved:
    return Moved(before.source, before.places.reshape(shape), before.scaled)


def _permute(call: Any, before: Moved, _: tuple[int, ...]) -> Moved:
    axes = None if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes]
    return Moved(before.source, before.places.transpose(axes), before.scaled)


def _take(call: Any, before: Moved, _: tuple[int, ...]) -> Moved | None:
    index = constant(call.args[1])
    if index is None or call.attrs.axis is None:
        return None
    axis = int(call.attrs.axis)
    if index.min(initial=0) < 0 or index.max(initial=0) >= before.places.shape[axis]:
        return None
    return Moved(before.source, np.take(before.places, index, axis), before.scaled)


def _slice(call: Any, before: Moved, _: tuple[int, ...]) -> Moved | None:
    if not all(hasattr(argument, "fields") for argument in call.args[1:]):
        return None
    axes, first, last, *steps = ([int(field.value) for field in argument.fields] for argument in call.args[1:])
    places = before.places
    for axis, begin, end, step in zip(axes, first, last, *(steps or [[1] * len(axes)]), strict=True):
        if step < 1:
            return None
        places = np.take(places, np.arange(places.shape[axis])[begin:end:step], axis)
    return Moved(before.source, places, before.scaled)


def _dequantize(call: Any, before: Moved, _: tuple[int, ...]) -> Moved | None:
    scaled = _scale(call)
    return None if scaled is None or before.scaled else Moved(before.source, before.places, scaled)


def _quantize(call: Any, before: Moved, _: tuple[int, ...]) -> Moved | None:
    if before.scaled is None or before.scaled != _scale(call):
        return None
    same = str(call.attrs.out_dtype) == str(before.source.ty.dtype)
    return Moved(before.source, before.places) if same else None


_MOVES: dict[str, Callable[[Any, Moved, tuple[int, ...]], Moved | None]] = {
    "relax.reshape": _reshape,
    "relax.permute_dims": _permute,
    "relax.strided_slice": _slice,
    "relax.take": _take,
    "relax.dequantize": _dequantize,
    "relax.quantize": _quantize,
}


def _scale(call: Any) -> tuple[float, int] | None:
    """Return the scale and the zero point of a whole tensor, None where there are several."""
    scale, zero = constant(call.args[1]), constant(call.args[2])
    if scale is None or zero is None or scale.ndim or zero.ndim:
        return None
    return float(scale), int(zero)


def _replaced(move: Moved, source: Any) -> Any:
    """Return the source, or a slice of its channels, that has all these elements in this order; None without one."""
    from tvm import relax

    whole = shape_of(move.source) or ()
    shape = move.places.shape
    if move.scaled is not None or len(shape) != 4 or len(whole) != 4 or 0 in shape:
        return None
    plane = whole[2] * whole[3]
    firsts = move.places[0, :, 0, 0] // plane
    first, step = int(firsts[0]), int(firsts[1] - firsts[0]) if len(firsts) > 1 else 1
    if step < 1:
        return None
    last = first + step * (len(firsts) - 1) + 1
    every = np.arange(np.prod(whole), dtype=np.int32).reshape(whole)[:, first:last:step]
    if not np.array_equal(every, move.places):
        return None
    if shape == whole:
        return source
    return relax.op.strided_slice(source, [_CHANNELS], [first], [last], [step])


def _join_integers(builder: Any, bindings: Any) -> Callable[[Any], Any]:
    """Emit the bindings with the quantization of a concatenation moved to its parts, and largest values of integers."""
    values = {binding.var: binding.value for binding in bindings}
    made: dict[Any, Any] = {}

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    for binding in bindings:
        value = rewritten(binding.value, form)
        if _is(value, "relax.quantize") and _scale(value) is not None:
            before: Any = values.get(binding.value.args[0])
            if _is(before, "relax.concat"):
                value = _joined(builder, value, before, form)
            elif _is(before, "relax.nn.max_pool2d") or _nearest(before):
                value = _pooled(value, before, values.get(before.args[0]), form)
        made[binding.var] = builder.emit(value)
    return form


def _joined(builder: Any, quantize: Any, concat: Any, form: Callable[[Any], Any]) -> Any:
    from tvm import relax

    if not isinstance(concat.args[0], relax.Tuple):
        return quantize
    _, *scale = quantize.args
    axis, dtype = int(quantize.attrs.axis), str(quantize.attrs.out_dtype)
    parts = [
        builder.emit(relax.op.quantize(rewritten(part, form), *scale, axis, dtype)) for part in concat.args[0].fields
    ]
    return relax.op.concat(parts, int(concat.attrs.axis))


def _pooled(quantize: Any, pool: Any, before: Any, form: Callable[[Any], Any]) -> Any:
    """Return the largest or nearest of the integers, which have the order of what they stand for, in the same scale."""
    from tvm import relax

    if not _is(before, "relax.dequantize") or _scale(before) != _scale(quantize):
        return quantize
    integers = form(before.args[0])
    if str(integers.ty.dtype) != str(quantize.attrs.out_dtype):
        return quantize
    return relax.Call(pool.op, [integers, *pool.args[1:]], pool.attrs, pool.ty_args)


def _nearest(value: Any) -> bool:
    """Say whether a call makes a picture larger or smaller by values that it has: a crop may go beyond it."""
    return (
        _is(value, "relax.image.resize2d")
        and str(value.attrs.method) == "nearest_neighbor"
        and str(value.attrs.coordinate_transformation_mode) != "tf_crop_and_resize"
    )


def _is(value: Any, name: str) -> bool:
    return getattr(getattr(value, "op", None), "name", "") == name
