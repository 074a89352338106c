"""Which convolutions and products are computed by the kernels of ``kernels.py``; all others keep TVM's own form."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepack.codegen import blocking, kernels, mathematics
from edgepack.codegen.expressions import constant, shape_of
from edgepack.codegen.kernels import Window

if TYPE_CHECKING:
    from edgepack.codegen.machine import Machine

Legalization: TypeAlias = Callable[[Any, Any], Any]
# tvm::relax::OpPatternKind: elementwise operators that follow may be computed on the result before it is stored.
_OUT_ELEMENTWISE_FUSABLE = 4
_FEWEST_COLUMNS = 4


def legalizations(machine: Machine) -> Mapping[str, Legalization]:
    """Return what ``relax.transform.LegalizeOps`` takes: a function (builder, call) -> expression for each operator."""
    rules: dict[str, Callable[[Any, Any], Any]] = {
        "relax.nn.conv2d": lambda builder, call: _conv2d(builder, call, machine),
        "relax.matmul": lambda builder, call: _matmul(builder, call, machine),
        "relax.nn.softmax": _softmax,
        "relax.nn.layer_norm": _layer_norm,
        **{name: functools.partial(_value, function) for name, function in mathematics.FUNCTIONS.items()},
    }
    return {name: functools.partial(_or_default, rule) for name, rule in rules.items()}


def _or_default(rule: Legalization, builder: Any, call: Any) -> Any:
    """Return what the rule makes of a call, or what TVM's own legalization does where it makes nothing."""
    made = rule(builder, call)
    return call.op.get_attr("FLegalize")(builder, call) if made is None else made


def _value(function: Callable[[Any], Any], builder: Any, call: Any) -> Any:
    if str(call.args[0].ty.dtype) != "float32":
        return None
    return builder.call_te(mathematics.elementwise(function), call.args[0], primfunc_name_hint="value")


def _softmax(builder: Any, call: Any) -> Any:
    x, shape = call.args[0], shape_of(call.args[0])
    if str(x.ty.dtype) != "float32" or not shape:
        return None
    axis = int(call.attrs.axis) % len(shape)
    return builder.call_te(mathematics.softmax, x, axis, primfunc_name_hint="softmax")


def _layer_norm(builder: Any, call: Any) -> Any:
    x, gamma, beta = call.args
    attrs, shape = call.attrs, shape_of(x)
    if str(x.ty.dtype) != "float32" or not shape or not (attrs.center and attrs.scale):
        return None
    axes = sorted(int(axis) % len(shape) for axis in attrs.axes)
    if axes != list(range(len(shape) - len(axes), len(shape))):
        return None
    build = functools.partial(mathematics.layer_norm, axes=axes, epsilon=float(attrs.epsilon))
    return builder.call_te(build, x, gamma, beta, primfunc_name_hint="layer_norm")


def window_of(call: Any, kernel: tuple[int, int]) -> Window:
    """Return the attributes of a call of conv2d."""
    attrs = call.attrs
    top, left, bottom, right = (int(v) for v in attrs.padding)
    return Window(
        kernel,
        (int(attrs.strides[0]), int(attrs.strides[1])),
        (top, left, bottom, right),
        (int(attrs.dilation[0]), int(attrs.dilation[1])),
        int(attrs.groups),
    )


def emit(builder: Any, build: kernels.Build, *inputs: Any, name: str) -> Any:
    """Return a call of a new function that elementwise operators may be fused into."""
    return builder.call_te(
        build, *inputs, primfunc_name_hint=name, primfunc_attrs={"op_pattern": _OUT_ELEMENTWISE_FUSABLE}
    )


def _conv2d(builder: Any, call: Any, machine: Machine) -> Any:
    """Return a convolution by our kernels, or None where they do not cover it."""
    from tvm import relax

    x, weights = call.args[0], constant(call.args[1])
    shape, attrs = shape_of(x), call.attrs
    if weights is None or shape is None or weights.dtype != np.float32 or str(x.ty.dtype) != "float32":
        return None
    if str(attrs.kernel_layout) != "OHWI" or str(attrs.out_layout) != "NHWC":
        return None
    channels_first = str(attrs.data_layout) == "NCHW"
    if channels_first:
        shape = (shape[0], *shape[2:], shape[1])
    outputs, high, wide, inputs = weights.shape
    window = window_of(call, (high, wide))
    output_high, output_wide = window.output(shape[1], shape[2])
    if window.groups > 1 and inputs == 1 and outputs == window.groups:
        lanes = blocking.lanes_for(outputs, machine)
        if outputs % lanes:
            return None
        tile = blocking.depthwise(output_wide, outputs, window.kernel, machine)
        flat = np.ascontiguousarray(weights[..., 0].transpose(1, 2, 0))
        return emit(builder, kernels.depthwise(tile, window), x, relax.const(flat), name="depthwise")
    terms = inputs * high * wide
    if window.groups > 1:
        each = outputs // window.groups
        tile = blocking.choose(output_high, output_wide, each, terms, machine)
        while each % tile.channels and tile.vectors > 1:
            tile = dataclasses.replace(tile, vectors=tile.vectors - 1)
        if each % tile.channels:
            return None
    elif window.pointwise and not channels_first:
        positions = shape[0] * shape[1] * shape[2]
        tile = blocking.choose(1, positions, outputs, terms, machine)
        packed = kernels.pack_weights(weights.reshape(outputs, inputs), tile.channels)
        return emit(builder, kernels.pointwise(tile, outputs), x, relax.const(packed), name="convolution1x1")
    else:
        tile = blocking.choose(output_high, output_wide, outputs, terms, machine)
    packed = kernels.pack_weights(weights, tile.channels)
    build = kernels.convolution(tile, window, outputs, channels_first=channels_first)
    return emit(builder, build, x, relax.const(packed), name="convolution")


def _matmul(builder: Any, call: Any, machine: Machine) -> Any:
    """Return a product by our kernels, or None where they do not cover it."""
    from tvm import relax

    a, b = call.args
    left, right = shape_of(a), shape_of(b)
    if left is None or right is None or str(a.ty.dtype) != "float32" or len(left) < 2 or len(right) < 2:
        return None
    weights = constant(b)
    if weights is not None and weights.ndim == 2 and weights.shape[1] >= _FEWEST_COLUMNS:
        terms, outputs = weights.shape
        tile = blocking.choose(1, int(np.prod(left[:-1])), outputs, terms, machine)
        packed = kernels.pack_weights(weights.T, tile.channels)
        return emit(builder, kernels.pointwise(tile, outputs), a, relax.const(packed), name="product")
    if left[:-2] != right[:-2] or right[-1] % _FEWEST_COLUMNS:
        return None
    tile = blocking.choose(1, left[-2], right[-1], left[-1], machine)
    if right[-1] % tile.channels:
        tile = dataclasses.replace(tile, vectors=1)
    return emit(builder, kernels.batched(tile), a, b, name="batched_product")
