"""Evaluates operators of constants with numpy; TVM's own pass would compile a function with LLVM for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.relax_util import (
    constant,
    is_straight,
    rebuilt,
    rewritten,
    shape_of,
    stored,
    with_main,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgepack.specs.types import Array


def fold(module: Any, keep: frozenset[str] = frozenset()) -> Any:
    """Return the module with ``main``'s operators of constants evaluated, except those named in ``keep``.

    What the table here does not know is left as it is, and so is a function with branches.
    """
    if not is_straight(module["main"]):
        return module
    return with_main(module, rebuilt(module["main"], lambda builder, bindings: _emit(builder, bindings, keep)))


def _emit(builder: Any, bindings: Any, keep: frozenset[str]) -> Callable[[Any], Any]:
    from tvm import relax

    made: dict[Any, Any] = {}
    shapes: dict[Any, Array] = {}

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    for binding in bindings:
        value = rewritten(binding.value, form)
        foldable = isinstance(value, relax.Call) and getattr(value.op, "name", "") not in keep
        found = evaluate(value) if foldable else None
        if foldable and value.op.name == "relax.shape_of" and (sizes := shape_of(value.args[0])) is not None:
            shapes[binding.var] = np.array(sizes, np.int64)
        elif foldable and value.op.name == "relax.shape_to_tensor":
            found = shapes.get(binding.value.args[0])
        if found is not None:
            made[binding.var] = stored(found)
        elif constant(value) is not None:
            made[binding.var] = value
        else:
            made[binding.var] = builder.emit(value)
    return form


def evaluate(call: Any) -> Array | None:
    """Return the value of a call whose arguments are all constants, or None."""
    from tvm import relax

    rule = _RULES.get(getattr(call.op, "name", ""))
    if rule is None:
        return None
    arguments = []
    for argument in call.args:
        if isinstance(argument, relax.ShapeExpr):
            if not all(hasattr(v, "value") for v in argument.values):
                return None
            arguments.append(np.array([int(v) for v in argument.values], np.int64))
            continue
        values = constant(argument)
        if values is None:
            return None
        arguments.append(values)
    made = np.asarray(rule(call.attrs, *arguments))
    return np.ascontiguousarray(made) if made.ndim else made


def _same_type(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return an elementwise operator; it stays in its inputs' type, as in ONNX."""
    return lambda _attrs, *inputs: function(*inputs).astype(inputs[0].dtype, copy=False)


def _dequantize(attrs: Any, x: Array, scale: Array, zero: Array) -> Array:
    axis = int(attrs.axis) % max(x.ndim, 1)
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    zero = zero.astype(np.int32).reshape(shape if zero.size > 1 else ())
    wide = (x.astype(np.int32) - zero).astype(np.float32)
    return np.asarray(wide * scale.reshape(shape if scale.size > 1 else ()), np.float32)


def _permute(attrs: Any, x: Array) -> Array:
    return x.transpose([int(a) for a in attrs.axes] if attrs.axes is not None else None)


def _take(attrs: Any, x: Array, index: Array) -> Array:
    """Return elements of an axis; TVM's other modes than wrap leave an index out of bounds open."""
    axis = None if attrs.axis is None else int(attrs.axis)
    return np.asarray(np.take(x, index, axis, mode="wrap" if str(attrs.mode) == "wrap" else "clip"))


_RULES: Mapping[str, Callable[..., Any]] = {
    "relax.add": _same_type(np.add),
    "relax.subtract": _same_type(np.subtract),
    "relax.multiply": _same_type(np.multiply),
    "relax.maximum": _same_type(np.maximum),
    "relax.minimum": _same_type(np.minimum),
    "relax.negative": _same_type(np.negative),
    "relax.less": lambda _, x, y: np.less(x, y),
    "relax.take": _take,
    "relax.isnan": lambda _, x: np.isnan(x),
    "relax.where": lambda _, c, x, y: np.asarray(np.where(c, x, y)).astype(x.dtype, copy=False),
    "relax.reshape": lambda _, x, shape: x.reshape(shape),
    "relax.expand_dims": lambda attrs, x: np.expand_dims(x, tuple(int(a) for a in attrs.axis)),
    "relax.permute_dims": _permute,
    "relax.dequantize": _dequantize,
}
