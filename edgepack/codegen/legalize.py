"""Which convolutions and products are computed by the kernels of ``kernels.py``; all others keep TVM's own form."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.codegen import blocking, kernels
from edgepack.codegen.expressions import constant, shape_of
from edgepack.codegen.kernels import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgepack.codegen.machine import Machine

# tvm::relax::OpPatternKind: elementwise operators that follow may be computed on the result before it is stored.
_OUT_ELEMENTWISE_FUSABLE = 4
_FEWEST_COLUMNS = 4


def legalizations(machine: Machine) -> Mapping[str, Callable[[Any, Any], Any]]:
    """Return what ``relax.transform.LegalizeOps`` takes: a function (builder, call) -> expression for each operator."""
    from tvm.relax.transform.legalize_ops import linear_algebra, nn

    def conv2d(builder: Any, call: Any) -> Any:
        made = _conv2d(builder, call, machine)
        return nn._nn_conv2d(builder, call) if made is None else made

    def matmul(builder: Any, call: Any) -> Any:
        made = _matmul(builder, call, machine)
        return linear_algebra._matmul(builder, call) if made is None else made

    return {"relax.nn.conv2d": conv2d, "relax.matmul": matmul}


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
    shape = shape_of(x)
    if weights is None or shape is None or str(call.attrs.data_layout) != "NHWC" or weights.dtype != np.float32:
        return None
    if str(call.attrs.kernel_layout) != "OHWI":
        return None
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
    elif window.pointwise:
        positions = shape[0] * shape[1] * shape[2]
        tile = blocking.choose(1, positions, outputs, terms, machine)
        packed = kernels.pack_weights(weights.reshape(outputs, inputs), tile.channels)
        return emit(builder, kernels.pointwise(tile, outputs), x, relax.const(packed), name="convolution1x1")
    else:
        tile = blocking.choose(output_high, output_wide, outputs, terms, machine)
    packed = kernels.pack_weights(weights, tile.channels)
    return emit(builder, kernels.convolution(tile, window, outputs), x, relax.const(packed), name="convolution")


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
