"""Rewrites a model so that pictures are channels last: every vector then holds channels of one position.

Each tensor [n, c, h, w] that a convolution makes lives on as [n, h, w, c]. Operators that work in either layout follow
their inputs; one that does not gets its input transposed back, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    from collections.abc import Callable

_LAST = (0, 2, 3, 1)  # [n, c, h, w] -> [n, h, w, c]
_FIRST = (0, 3, 1, 2)
_AXIS = {0: 0, 1: 3, 2: 1, 3: 2}  # where an axis of [n, c, h, w] is in [n, h, w, c]

_FEWEST_CHANNELS = 8

_UNARY = frozenset(
    {
        "relax.abs", "relax.astype", "relax.ceil", "relax.clip", "relax.cos", "relax.erf", "relax.exp", "relax.floor",
        "relax.log", "relax.negative", "relax.nn.gelu", "relax.nn.gelu_tanh", "relax.nn.leakyrelu", "relax.nn.relu",
        "relax.nn.silu", "relax.round", "relax.rsqrt", "relax.sigmoid", "relax.sin", "relax.sqrt", "relax.square",
        "relax.tanh",
    }
)  # fmt: skip
_BINARY = frozenset(
    {"relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.maximum", "relax.minimum", "relax.power"}
)
_POOLS = frozenset({"relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d"})


def channels_last(module: Any) -> Any:
    """Return the module with its function ``main`` rewritten, or as it is where that has branches."""
    if not is_straight(module["main"]):
        return module

    def emit(builder: Any, bindings: Any) -> Callable[[Any], Any]:
        rewriter = Rewriter(builder)
        for binding in bindings:
            rewriter.bind(binding)
        return rewriter.usual

    return with_main(module, rebuilt(module["main"], emit))


class Rewriter:
    """Keeps each variable's form with channels last; the usual form is made when somebody wants it."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self._last: dict[Any, Any] = {}
        self._first: dict[Any, Any] = {}

    def bind(self, binding: Any) -> None:
        """Emit one binding of the model, in whichever layout its inputs have."""
        from tvm import relax

        value = binding.value
        if isinstance(value, relax.Call):
            handler = _handler(getattr(value.op, "name", ""))
            made = handler(self, value) if handler else None
            if made is not None:
                self._last[binding.var] = self._builder.emit(made)
                return
        if self.is_last(value):
            self._last[binding.var] = self._last[value]
            return
        self._first[binding.var] = self._builder.emit(rewritten(value, self.usual))

    def usual(self, variable: Any) -> Any:
        """Return the variable with channels first; one that is not there is transposed back."""
        from tvm import relax

        if variable not in self._first and variable in self._last:
            self._first[variable] = self._builder.emit(relax.op.permute_dims(self._last[variable], _FIRST))
        return self._first.get(variable, variable)

    def channels_last(self, expression: Any) -> Any:
        """Return an expression of four dimensions with channels last."""
        from tvm import relax

        values = constant(expression)
        if values is not None:
            return stored(values.transpose(_LAST))
        if expression not in self._last:
            self._last[expression] = self._builder.emit(relax.op.permute_dims(self.usual(expression), _LAST))
        return self._last[expression]

    def is_last(self, expression: Any) -> bool:
        """Say whether the expression is a variable that is there with channels last."""
        from tvm import relax

        return isinstance(expression, relax.Var) and expression in self._last


def _handler(name: str) -> Callable[[Any, Any], Any] | None:
    if name in _UNARY:
        return _unary
    if name in _BINARY:
        return _binary
    if name in _POOLS:
        return _pool
    return {
        "relax.nn.conv2d": _conv2d, "relax.concat": _concat, "relax.quantize": _scaled, "relax.dequantize": _scaled,
        "relax.nn.pad": _pad, "relax.mean": _mean, "relax.strided_slice": _slice, "relax.nn.softmax": _softmax,
        "relax.image.resize2d": _resize,
    }.get(name)  # fmt: skip


def _conv2d(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    x, weights = call.args[0], constant(call.args[1])
    attrs = call.attrs
    if weights is None or str(attrs.data_layout) != "NCHW" or str(attrs.kernel_layout) != "OIHW":
        return None
    # A kernel reads single values of its input, so that few channels may stay first; only its output must be in order.
    # Only bytes are read four channels at a time.
    few = weights.shape[1] < _FEWEST_CHANNELS and int(attrs.groups) == 1 and str(attrs.out_dtype) != "int32"
    as_it_is = few and not rewriter.is_last(x)
    return relax.op.nn.conv2d(
        rewriter.usual(x) if as_it_is else rewriter.channels_last(x),
        stored(weights.transpose(0, 2, 3, 1)),
        strides=list(attrs.strides),
        padding=list(attrs.padding),
        dilation=list(attrs.dilation),
        groups=attrs.groups,
        data_layout="NCHW" if as_it_is else "NHWC",
        kernel_layout="OHWI",
        out_layout="NHWC",
        out_dtype=attrs.out_dtype,
    )


def _unary(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    if not rewriter.is_last(call.args[0]):
        return None
    return relax.Call(call.op, [rewriter.channels_last(call.args[0]), *call.args[1:]], call.attrs, call.ty_args)


def _binary(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    if not any(rewriter.is_last(arg) for arg in call.args):
        return None
    made = []
    for arg in call.args:
        values, shape = constant(arg), shape_of(arg)
        if values is not None:
            wide = values.reshape((1,) * (4 - values.ndim) + values.shape) if values.ndim else values
            made.append(stored(wide.transpose(_LAST) if values.ndim else wide))
        elif shape is not None and len(shape) == 4:
            made.append(rewriter.channels_last(arg))
        else:
            return None
    return relax.Call(call.op, made, call.attrs, call.ty_args)


def _pool(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    x, attrs = call.args[0], call.attrs
    if not rewriter.is_last(x) or str(attrs.layout) != "NCHW":
        return None
    name = call.op.name.removeprefix("relax.nn.")
    if name == "adaptive_avg_pool2d":
        return relax.op.nn.adaptive_avg_pool2d(rewriter.channels_last(x), list(attrs.output_size or ()) or None, "NHWC")
    more = {"count_include_pad": attrs.count_include_pad}
    return getattr(relax.op.nn, name)(
        rewriter.channels_last(x),
        pool_size=list(attrs.pool_size),
        strides=list(attrs.strides),
        padding=list(attrs.padding),
        dilation=list(attrs.dilation),
        ceil_mode=attrs.ceil_mode,
        layout="NHWC",
        **more,
    )


def _concat(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    parts = call.args[0]
    if not isinstance(parts, relax.Tuple) or not any(rewriter.is_last(part) for part in parts.fields):
        return None
    if any(len(shape_of(part) or ()) != 4 for part in parts.fields):
        return None
    axis = int(call.attrs.axis)
    return relax.op.concat([rewriter.channels_last(part) for part in parts.fields], _AXIS[axis % 4])


def _scaled(rewriter: Rewriter, call: Any) -> Any:
    """Quantize and dequantize with one scale and zero point for the whole tensor."""
    from tvm import relax

    x, scale, zero = call.args
    scalars = [constant(part) for part in (scale, zero)]
    if not rewriter.is_last(x) or any(part is None or part.ndim for part in scalars):
        return None
    return relax.Call(call.op, [rewriter.channels_last(x), scale, zero], call.attrs, call.ty_args)


def _pad(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    x, attrs = call.args[0], call.attrs
    widths = [int(width) for width in attrs.pad_width]
    shape = shape_of(x)
    # What is not channels last yet becomes so here: only convolutions pad, and they want it.
    if shape is None or len(shape) != 4 or len(widths) != 8 or str(attrs.pad_mode) != "constant":
        return None
    if not rewriter.is_last(x) and str(x.ty.dtype) not in ("uint8", "int8"):
        return None
    moved = [width for axis in _LAST for width in widths[2 * axis : 2 * axis + 2]]
    return relax.op.nn.pad(rewriter.channels_last(x), moved, "constant", attrs.pad_value)


def _mean(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    attrs = call.attrs
    if not rewriter.is_last(call.args[0]) or not attrs.keepdims or attrs.axis is None:
        return None
    axes = [_AXIS[int(axis) % 4] for axis in attrs.axis]
    return relax.op.mean(rewriter.channels_last(call.args[0]), axes, keepdims=True)


def _slice(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax, tirx

    x, axes, begin, end, *strides = call.args
    if not rewriter.is_last(x) or not isinstance(axes, relax.Tuple):
        return None
    moved = relax.Tuple([tirx.IntImm("int64", _AXIS[int(axis.value) % 4]) for axis in axes.fields])
    return relax.Call(call.op, [rewriter.channels_last(x), moved, begin, end, *strides], call.attrs, call.ty_args)


def _resize(rewriter: Rewriter, call: Any) -> Any:
    """Take and give channels last where they are so and values are copied: sums of several keep their own order."""
    from tvm import relax

    x, attrs = call.args[0], call.attrs
    if not rewriter.is_last(x) or str(attrs.layout) != "NCHW" or str(attrs.method) != "nearest_neighbor":
        return None
    kept = (
        "method", "coordinate_transformation_mode", "rounding_method", "cubic_alpha", "cubic_exclude",
        "extrapolation_value", "out_dtype",
    )  # fmt: skip
    roi = tuple(float(side) for side in attrs.roi)
    more = {name: getattr(attrs, name) for name in kept}
    return relax.op.image.resize2d(rewriter.channels_last(x), call.args[1], roi, "NHWC", **more)


def _softmax(rewriter: Rewriter, call: Any) -> Any:
    from tvm import relax

    if not rewriter.is_last(call.args[0]):
        return None
    return relax.op.nn.softmax(rewriter.channels_last(call.args[0]), _AXIS[int(call.attrs.axis) % 4])
