"""The larger and the smaller of two, and bounds, that keep NaN as ONNX Runtime does; TVM's own lose it.

TVM writes ``a > b ? a : b``, which is b where a is NaN. Here the value that may be NaN comes last: ``b > a ? b : a``,
which costs the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from edgepack.engines.tvm.codegen.clip_pass import raise_calls
from edgepack.engines.tvm.codegen.once import once
from edgepack.engines.tvm.codegen.relax_util import constant

if TYPE_CHECKING:
    Scalar: TypeAlias = Any
    Build: TypeAlias = Callable[..., Any]

Legalization: TypeAlias = Callable[[Any, Any], Any]


def keep_nan(module: Any) -> Any:
    """Return the module with every operator as a function of TVM's own loops, but these as functions that keep NaN."""
    from tvm import relax

    rules = {name: partial(or_default, rule) for name, rule in RULES.items()}
    return relax.transform.LegalizeOps(rules)(raise_calls(module))


def or_default(rule: Legalization, builder: Any, call: Any) -> Any:
    """Return what the rule makes of a call, or what TVM's own legalization does where it makes nothing."""
    made = rule(builder, call)
    return call.op.get_attr("FLegalize")(builder, call) if made is None else made


def _relu(builder: Any, call: Any) -> Any:
    return _elementwise(builder, call, lambda x, const: _not_below(x, const(0)), name="relu")


def _clip(builder: Any, call: Any) -> Any:
    low, high = (float(bound.value) for bound in call.args[1:])

    def bounded(x: Scalar, const: Callable[[float], Scalar]) -> Scalar:
        return once(_not_below(x, const(low)), lambda x: _not_above(x, const(high)), str(call.ty.dtype))

    return _elementwise(builder, call, bounded, name="clip")


def _maximum(builder: Any, call: Any) -> Any:
    return _of_two(builder, call, _not_below, name="maximum")


def _minimum(builder: Any, call: Any) -> Any:
    return _of_two(builder, call, _not_above, name="minimum")


def _largest(builder: Any, call: Any) -> Any:
    return _of_many(builder, call, lambda one, other: one > other, -math.inf)


def _smallest(builder: Any, call: Any) -> Any:
    return _of_many(builder, call, lambda one, other: one < other, math.inf)


RULES: Mapping[str, Legalization] = {
    "relax.nn.relu": _relu,
    "relax.clip": _clip,
    "relax.maximum": _maximum,
    "relax.minimum": _minimum,
    "relax.max": _largest,
    "relax.min": _smallest,
}


def _of_many(builder: Any, call: Any, wins: Callable[[Scalar, Scalar], Scalar], start: float) -> Any:
    """Return the reduction over the axes of the call; once NaN, it stays so. ONNX writes Max of two as one, too."""
    from tvm import te, tirx

    attrs = call.attrs
    reducer = te.comm_reducer(
        lambda one, other: tirx.Select(tirx.any(wins(one, other), tirx.isnan(one)), one, other),
        lambda dtype: tirx.const(start, dtype),
        name="extreme",
    )

    def build(x: Any) -> Any:
        rank = len(x.shape)
        axes = sorted(range(rank) if attrs.axis is None else (int(axis) % rank for axis in attrs.axis))
        kept = [extent for k, extent in enumerate(x.shape) if k not in axes]
        shape = [1 if k in axes else extent for k, extent in enumerate(x.shape)] if attrs.keepdims else kept
        along = [te.reduce_axis((0, x.shape[k]), f"k{k}") for k in axes]

        def value(*index: Any) -> Any:
            given = iter(i for p, i in enumerate(index) if not attrs.keepdims or p not in axes)
            over = iter(along)
            return reducer(x(*(next(over) if k in axes else next(given) for k in range(rank))), axis=along)

        return te.compute(shape, value, name="extreme")

    return _floats_only(builder, call, build, call.args[0], name="extreme")


def _of_two(builder: Any, call: Any, bounded: Callable[[Scalar, Scalar], Scalar], *, name: str) -> Any:
    """Return the function of two tensors; a constant is the bound, and of two that are computed either may be NaN."""
    from tvm import tirx, topi

    first, second = call.args
    if constant(first) is not None:
        first, second = second, first
    known = constant(second) is not None

    def both(x: Scalar, y: Scalar) -> Scalar:
        return bounded(x, y) if known else tirx.Select(tirx.isnan(y), y, bounded(x, y))

    def build(a: Any, b: Any) -> Any:
        from tvm import te

        shape = topi.maximum(a, b).shape
        return te.compute(shape, lambda *i: both(_at(a, shape, i), _at(b, shape, i)), name=name)

    return _floats_only(builder, call, build, first, second, name=name)


def _at(tensor: Any, shape: Any, index: tuple[Any, ...]) -> Any:
    """Return the element of a tensor that is broadcast to ``shape``.

    An axis that is one long in both keeps its index: TVM would take a 0 for a broadcast, and fuse nothing behind it.
    """
    more = len(index) - len(tensor.shape)
    own = zip(tensor.shape, shape[more:], index[more:], strict=True)
    return tensor(*(0 if _is_one(extent) and not _is_one(wide) else i for extent, wide, i in own))


def _is_one(extent: Any) -> bool:
    return getattr(extent, "value", None) == 1


def _elementwise(builder: Any, call: Any, value: Callable[[Scalar, Any], Scalar], *, name: str) -> Any:
    """Return the function of one tensor; ``value`` also gets what makes constants of the tensor's type."""

    def build(x: Any) -> Any:
        from tvm import te, tirx

        def const(number: float) -> Scalar:
            return tirx.const(number, x.dtype)

        return te.compute(x.shape, lambda *i: once(x(*i), lambda x: value(x, const), str(x.dtype)), name=name)

    return _floats_only(builder, call, build, call.args[0], name=name)


def _floats_only(builder: Any, call: Any, build: Build, *inputs: Any, name: str) -> Any:
    """Return a call of a new function, None for whole numbers, which have no NaN."""
    if not str(call.ty.dtype).startswith("float"):
        return None
    return builder.call_te(build, *inputs, primfunc_name_hint=name)


def _not_below(x: Scalar, low: Scalar) -> Scalar:
    from tvm import tirx

    return tirx.Select(low > x, low, x)


def _not_above(x: Scalar, high: Scalar) -> Scalar:
    from tvm import tirx

    return tirx.Select(high < x, high, x)
