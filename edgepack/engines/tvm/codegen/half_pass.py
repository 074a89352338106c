"""float16 is for storing: sums and functions of float16 tensors are computed in float32, and rounded once in the end.

Convolutions and products read float16 and add in float32. Functions, reductions and normalizations widen their inputs;
where those are elementwise, this is fused and nothing wide is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.relax_util import constant, is_straight, rebuilt, rewritten, with_main

if TYPE_CHECKING:
    from collections.abc import Callable

_HALF, _WIDE = "float16", "float32"
# These name the type of their sums.
_PRODUCTS = frozenset({"relax.nn.conv2d", "relax.matmul"})
_WIDENED = frozenset(
    {
        "relax.cos", "relax.erf", "relax.exp", "relax.log", "relax.mean", "relax.nn.adaptive_avg_pool2d",
        "relax.nn.avg_pool1d", "relax.nn.avg_pool2d", "relax.nn.conv1d", "relax.nn.conv2d_transpose", "relax.nn.gelu",
        "relax.nn.gelu_tanh", "relax.nn.layer_norm", "relax.nn.log_softmax", "relax.nn.rms_norm", "relax.nn.silu",
        "relax.nn.softmax", "relax.power", "relax.rsqrt", "relax.sigmoid", "relax.sin", "relax.sqrt", "relax.sum",
        "relax.tanh", "relax.variance",
    }
)  # fmt: skip


def wide_sums(module: Any) -> Any:
    """Return the module with ``main``'s operators on float16 written so; one with branches stays as it is."""
    if not is_straight(module["main"]):
        return module
    return with_main(module, rebuilt(module["main"], _emit))


def _emit(builder: Any, bindings: Any) -> Callable[[Any], Any]:
    from tvm import relax

    made: dict[Any, Any] = {}

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    for binding in bindings:
        value = rewritten(binding.value, form)
        name = getattr(getattr(value, "op", None), "name", "")
        if name in _PRODUCTS | _WIDENED and _dtype(binding.var) == _HALF:
            value = relax.op.astype(builder.emit(_wide(builder, name, value)), _HALF)
        made[binding.var] = builder.emit(value)
    return form


def _dtype(expression: Any) -> str:
    return str(getattr(getattr(expression, "ty", None), "dtype", ""))


def _wide(builder: Any, name: str, call: Any) -> Any:
    """Return the call with a result of float32."""
    from tvm import relax

    if name == "relax.matmul":
        return relax.op.matmul(*call.args, out_dtype=_WIDE)
    if name == "relax.nn.conv2d":
        attrs = call.attrs
        return relax.op.nn.conv2d(
            *call.args, strides=list(attrs.strides), padding=list(attrs.padding), dilation=list(attrs.dilation),
            groups=attrs.groups, data_layout=attrs.data_layout, kernel_layout=attrs.kernel_layout,
            out_layout=attrs.out_layout, out_dtype=_WIDE,
        )  # fmt: skip
    return relax.Call(call.op, [_widened(builder, a) for a in call.args], call.attrs, call.ty_args)


def _widened(builder: Any, argument: Any) -> Any:
    from tvm import relax

    if _dtype(argument) != _HALF:
        return argument
    values = constant(argument)
    if values is not None:
        return relax.const(np.asarray(values, np.float32))
    return builder.emit(relax.op.astype(argument, _WIDE))
