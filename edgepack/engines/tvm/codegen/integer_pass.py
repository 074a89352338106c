"""Turns Q/DQ around convolutions and products into integer arithmetic: the weights stay int8, the sums are int32.

What is computed, exactly, for each output channel c:

    sum = bias[c] - zero_x * sum(w[c]) + sum(x * w[c])      in int32, or in float32 where every sum is below 2^24
    y = clip(round(float32(sum) * m[c]) + zero_y)           m = scale_x * scale_w[c] / scale_y; half to even

with the bounds of a ReLU or Clip between them applied before rounding. Where no QuantizeLinear follows, y is
float32(sum) * scale_x * scale_w[c]. Activations get the type that the machine multiplies (``dot.activation_type``): a
quantized tensor that only DequantizeLinear reads moves its zero point by 128, which changes no value.

Products of two quantized activations a and b of k terms are integers too where the machine multiplies such bytes:

    sum = sum(a * b) - zero_b * sum(a) - zero_a * sum(b) + k * zero_a * zero_b      in int32

The second factor, where nothing else reads it, is int8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.fold_pass import evaluate
from edgepack.engines.tvm.codegen.intrinsics import activation_type, multiplies_activations
from edgepack.engines.tvm.codegen.moves_pass import slices_of_channels
from edgepack.engines.tvm.codegen.relax_util import (
    constant,
    is_straight,
    rebuilt,
    rewritten,
    shape_of,
    stored,
    with_main,
)
from edgepack.engines.tvm.codegen.widen_pass import without_slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.specs.types import Array

# Sums of whole numbers below this are exact in float32.
_EXACT_FLOAT = 1 << 24
# Products of two activations of more terms could exceed int32 with what their zero points add.
_MOST_TERMS = 1 << 14
_FEWEST_INPUTS = 3  # a convolution of fewer input channels would mostly multiply padding, four at a time


@dataclass(frozen=True)
class Quantized:
    """Where a float tensor came from: integers, a scale and a zero point, each a scalar or one for each channel."""

    integers: Any
    scale: Array
    zero: Array
    axis: int


@dataclass
class Plan:
    """One convolution or product in integers, and the operators behind it that become its last step."""

    call: Any
    x: Quantized
    weights: Array  # int8: [output, input, height, width], or [input, output] of a product
    factor: Array  # scale_x * scale_w, float32, a scalar or one for each output channel
    bias: Array  # int32, one for each output channel
    last: Any  # the variable that the last step gives
    bounds: list[tuple[str, float]] = field(default_factory=list)
    output: Any = None  # the call of quantize, when there is one
    second: Quantized | None = None  # the other activation, where there are no weights


def integer_arithmetic(module: Any, machine: Machine) -> Any:
    """Return the module with ``main``'s quantized convolutions and products in integers; others stay as they are."""
    from tvm import relax

    if not is_straight(module["main"]):
        return module
    wanted, both = activation_type(machine), multiplies_activations(machine)
    main = rebuilt(module["main"], lambda builder, bindings: _one_type(builder, bindings, wanted, both=both))
    main = without_slices(slices_of_channels(main), machine)
    module = relax.transform.DeadCodeElimination()(with_main(module, main))
    return with_main(module, rebuilt(module["main"], lambda builder, bindings: _emit(builder, bindings, both=both)))


# --- one type of activations ------------------------------------------------------------------------------------------


def _one_type(builder: Any, bindings: Any, usual: str, *, both: bool) -> Callable[[Any], Any]:
    """Emit the bindings with every quantized tensor that only ``dequantize`` reads in the type wanted.

    That is the ``usual`` one; with ``both`` int8 for what is only the second factor of products.
    """
    from tvm import relax

    readers = _readers(bindings)
    seconds = _seconds(bindings, readers) if both else set()
    made: dict[Any, Any] = {}
    moved: set[Any] = set()

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    for binding in bindings:
        value = rewritten(binding.value, form)
        wanted = "int8" if binding.var in seconds else usual
        if _is(value, "relax.quantize") and str(value.attrs.out_dtype) != wanted:
            users = readers.get(binding.var, [])
            zero = constant(value.args[2])
            if zero is not None and zero.ndim == 0 and users and all(_is(u, "relax.dequantize") for u in users):
                moved.add(binding.var)
                x, scale, _ = value.args
                value = relax.op.quantize(x, scale, _moved(zero, wanted), int(value.attrs.axis), wanted)
        elif _is(value, "relax.dequantize") and binding.value.args[0] in moved:
            x, scale, zero_point = value.args
            zero = np.asarray(constant(zero_point))
            value = relax.op.dequantize(
                x, scale, _moved(zero, str(x.ty.dtype)), int(value.attrs.axis), str(value.attrs.out_dtype)
            )
        made[binding.var] = builder.emit(value)
    return form


def _seconds(bindings: Any, readers: dict[Any, list[Any]]) -> set[Any]:
    """Return the quantized tensors that are read, through ``dequantize``, as the second factor of products alone."""
    dequantized: dict[Any, list[Any]] = {}
    for binding in bindings:
        if _is(binding.value, "relax.dequantize"):
            dequantized.setdefault(binding.value.args[0], []).append(binding.var)
    return {
        variable
        for variable, views in dequantized.items()
        if all(_is(user, "relax.matmul") for view in views for user in readers.get(view, [None]))
        and all(user.args[1] is view or user.args[1].same_as(view) for view in views for user in readers[view])
        and not any(user.args[0].same_as(view) for view in views for user in readers[view])
    }


def _moved(zero: Array, wanted: str) -> Any:
    from tvm import relax

    return relax.const(np.asarray(zero.astype(np.int32) + (128 if wanted == "uint8" else -128), np.dtype(wanted)))


# --- matching ---------------------------------------------------------------------------------------------------------


def _is(value: Any, name: str) -> bool:
    return getattr(getattr(value, "op", None), "name", "") == name


def _readers(bindings: Any) -> dict[Any, list[Any]]:
    """Return the right sides that read each variable; what the function returns is read by None."""
    from tvm import relax

    found: dict[Any, list[Any]] = {}
    for binding in bindings:

        def note(variable: Any, value: Any = binding.value) -> Any:
            found.setdefault(variable, []).append(value)
            return variable

        rewritten(binding.value, note)
        if not isinstance(binding.var, relax.DataflowVar):
            found.setdefault(binding.var, []).append(None)
    return found


class _Matcher:
    """Finds the plans of a function's bindings."""

    def __init__(self, bindings: Any, *, both: bool) -> None:
        self._both = both
        self._value = {b.var: b.value for b in bindings}
        self._readers = _readers(bindings)
        self._variables = [(b.value, b.var) for b in bindings]

    def plans(self) -> dict[Any, Plan]:
        """Return the plan of each convolution or product, by its variable."""
        found = {}
        for variable, value in self._value.items():
            plan = self._plan(variable, value)
            if plan is not None:
                found[variable] = plan
        return found

    def values(self, expression: Any) -> Array | None:
        """Return what an expression is when it depends on constants alone, or None."""
        direct = constant(expression)
        if direct is not None:
            return direct
        value = self._value.get(expression)
        if value is None or not hasattr(value, "args"):
            return None
        from tvm import relax

        arguments = []
        for argument in value.args:
            if isinstance(argument, relax.ShapeExpr):
                arguments.append(argument)
                continue
            known = self.values(argument)
            if known is None:
                return None
            arguments.append(stored(known))
        return evaluate(relax.Call(value.op, arguments, value.attrs, value.ty_args))

    def source(self, expression: Any) -> Quantized | None:
        """Return where a dequantized tensor came from."""
        value = self._value.get(expression)
        if value is None or not _is(value, "relax.dequantize") or str(value.attrs.out_dtype) != "float32":
            return None
        scale, zero = constant(value.args[1]), constant(value.args[2])
        if scale is None or zero is None:
            return None
        return Quantized(value.args[0], scale, zero, int(value.attrs.axis))

    def _plan(self, variable: Any, value: Any) -> Plan | None:
        convolution = _is(value, "relax.nn.conv2d")
        if not convolution and not _is(value, "relax.matmul"):
            return None
        x = self.source(value.args[0])
        if x is None or x.scale.ndim or str(x.integers.ty.dtype) not in ("uint8", "int8"):
            return None
        if not convolution and (second := self._second(value, x)) is not None:
            factor = np.asarray(x.scale.astype(np.float32) * second.scale.astype(np.float32), np.float32)
            plan = Plan(value, x, np.zeros(0, np.int8), factor, np.zeros(0, np.int32), variable, second=second)
            self._take_end(plan)
            return plan
        found = self._weights(value.args[1], 0 if convolution else 1)
        if found is None or (convolution and not _covered(value, found[0], x)):
            return None
        weights, scale = found
        if not convolution and (weights.ndim != 2 or shape_of(value.args[0]) is None):
            return None
        outputs = weights.shape[0] if convolution else weights.shape[1]
        sums = weights.astype(np.int64).sum(axis=(1, 2, 3) if convolution else 0)
        factor = np.asarray(x.scale.astype(np.float32) * scale, np.float32)
        bias = -int(x.zero) * sums
        plan = Plan(value, x, weights, factor, bias, variable)
        self._take_bias(plan, outputs)
        if np.abs(plan.bias).max(initial=0) >= 1 << 30:
            return None
        plan.bias = plan.bias.astype(np.int32)
        self._take_end(plan)
        return plan

    def _second(self, call: Any, x: Quantized) -> Quantized | None:
        """Return the second factor of a product of two activations that there is a kernel for."""
        found = self.source(call.args[1]) if self._both else None
        left, right = shape_of(x.integers), shape_of(call.args[1])
        if found is None or found.scale.ndim or left is None or right is None or len(left) < 2:
            return None
        if str(found.integers.ty.dtype) != "int8" or self.values(found.integers) is not None:
            return None
        return found if left[:-2] == right[:-2] and left[-1] <= _MOST_TERMS else None

    def _weights(self, expression: Any, axis: int) -> tuple[Array, Array] | None:
        """Return int8 weights and their scale, a scalar or one for each channel of ``axis``; zero points are zero."""
        value = self._value.get(expression)
        turned = value is not None and _is(value, "relax.permute_dims") and value.attrs.axes is None
        if value is not None and _is(value, "relax.permute_dims") and not turned:
            turned = [int(a) for a in value.attrs.axes] == [1, 0]
            if not turned:
                return None
        source = self.source(value.args[0] if turned and value is not None else expression)
        if source is None:
            return None
        integers = self.values(source.integers)
        if integers is None or integers.dtype != np.int8 or np.any(source.zero):
            return None
        if turned:
            integers = np.ascontiguousarray(integers.T)
        its_axis = source.axis % integers.ndim
        its_axis = 1 - its_axis if turned else its_axis
        if source.scale.size > 1 and its_axis != axis:
            return None
        return integers, source.scale.reshape(-1) if source.scale.size > 1 else source.scale.reshape(())

    def _next(self, plan: Plan) -> tuple[Any, Any] | None:
        """Return the only reader of the plan's last variable, and that reader's variable."""
        readers = self._readers.get(plan.last, [])
        if len(readers) != 1 or readers[0] is None:
            return None
        return readers[0], next(var for value, var in self._variables if value.same_as(readers[0]))

    def _take_bias(self, plan: Plan, outputs: int) -> None:
        """Add a constant that is a whole number of the product's scale to the integer bias."""
        following = self._next(plan)
        if following is None or not _is(following[0], "relax.add"):
            return
        value, variable = following
        other = next((a for a in value.args if a is not plan.last and not a.same_as(plan.last)), None)
        known = self.values(other) if other is not None else None
        if known is None or known.size not in (1, outputs):
            return
        if known.size == outputs > 1 and _axis_of(known.shape) != (1 if _is(plan.call, "relax.nn.conv2d") else -1):
            return
        whole = known.reshape(-1).astype(np.float64) / plan.factor.astype(np.float64)
        # A bias quantized with the product's own scale is whole but for the rounding of float32.
        if np.abs(whole - np.rint(whole)).max(initial=0) > 1e-6 * max(np.abs(whole).max(initial=0), 1):
            return
        if np.abs(whole).max(initial=0) >= 1 << 30:
            return
        plan.bias = plan.bias + np.rint(whole).astype(np.int64)
        plan.last = variable

    def _take_end(self, plan: Plan) -> None:
        """Take the bounds and the quantization that follow, when a quantization does."""
        last, bounds = plan.last, list(plan.bounds)
        while following := self._next(plan):
            value, variable = following
            bound = self._bound(value, plan.last)
            if bound is not None:
                plan.bounds.append(bound)
                plan.last = variable
                continue
            if _is(value, "relax.quantize") and all(_is_scalar(a) for a in value.args[1:]):
                plan.output, plan.last = value, variable
                return
            break
        plan.last, plan.bounds = last, bounds

    def _bound(self, value: Any, variable: Any) -> tuple[str, float] | None:
        if _is(value, "relax.nn.relu"):
            return "maximum", 0.0
        for name in ("maximum", "minimum"):
            if _is(value, f"relax.{name}") and value.args[0].same_as(variable):
                known = self.values(value.args[1])
                if known is not None and known.size == 1 and not np.isnan(known).any():
                    return name, float(known.reshape(()))
        return None


def _is_scalar(expression: Any) -> bool:
    known = constant(expression)
    return known is not None and known.ndim == 0


def _axis_of(shape: tuple[int, ...]) -> int:
    """Return where the only dimension above 1 is: 1 for [1, c, 1, 1] and [c, 1, 1], -1 for [..., c]."""
    place = next(n for n, size in enumerate(shape) if size > 1)
    if place == len(shape) - 1:
        return -1
    return 1 if len(shape) - place == 3 else 0


def _covered(call: Any, weights: Array, x: Quantized) -> bool:
    """Say whether there is a kernel: one group, or one input channel for each group and sums that float32 holds."""
    attrs = call.attrs
    if str(attrs.data_layout) != "NCHW" or str(attrs.kernel_layout) != "OIHW" or shape_of(x.integers) is None:
        return False
    groups = int(attrs.groups)
    if groups == 1 and weights.shape[1] >= _FEWEST_INPUTS:
        return True
    if groups > 1 and (weights.shape[1] != 1 or weights.shape[0] != groups):
        return False
    return int(np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)).max()) * 255 < _EXACT_FLOAT


# --- emitting ---------------------------------------------------------------------------------------------------------


def _emit(builder: Any, bindings: Any, *, both: bool) -> Callable[[Any], Any]:
    made: dict[Any, Any] = {}

    def form(variable: Any) -> Any:
        return made.get(variable, variable)

    plans = {plan.last: plan for plan in _Matcher(bindings, both=both).plans().values()}
    for binding in bindings:
        plan = plans.get(binding.var)
        value = rewritten(binding.value, form) if plan is None else _emit_plan(builder, plan, form, both=both)
        made[binding.var] = builder.emit(value)
    return form


def _emit_plan(builder: Any, plan: Plan, form: Callable[[Any], Any], *, both: bool) -> Any:
    """Return the last expression of a plan; those before it are emitted."""
    from tvm import relax

    convolution = _is(plan.call, "relax.nn.conv2d")
    along = (1, -1, 1, 1) if convolution else (-1,)
    if plan.second is not None:
        value = _activations(builder, plan, plan.second, form)
    else:
        sums = _convolution(builder, plan, form, each=both) if convolution else _product(builder, plan, form)
        bias = plan.bias.astype(str(sums.ty.dtype)).reshape(along)
        value = builder.emit(relax.op.add(sums, relax.const(bias)))
    if str(value.ty.dtype) == "int32":
        value = builder.emit(relax.op.astype(value, "float32"))
    scale = np.asarray(constant(plan.output.args[1]), np.float32) if plan.output is not None else np.float32(1)
    factor = np.asarray(plan.factor / scale, np.float32)
    factor = factor.reshape(along) if factor.ndim else factor
    result = relax.op.multiply(value, relax.const(factor))
    for name, bound in plan.bounds:
        limit = np.asarray(np.float32(bound) / scale, np.float32)
        if plan.output is None or _binds(name, limit, plan.output):
            result = getattr(relax.op, name)(builder.emit(result), relax.const(limit))
    if plan.output is None:
        return result
    attrs = plan.output.attrs
    zero = relax.const(np.asarray(constant(plan.output.args[2])))
    return relax.op.quantize(
        builder.emit(result), relax.const(np.float32(1)), zero, int(attrs.axis), str(attrs.out_dtype)
    )


def _binds(name: str, limit: Array, output: Any) -> bool:
    """Say whether a bound, rounded, lies within the range of the quantized type, whose own bounds hold anyway."""
    ends = np.iinfo(str(output.attrs.out_dtype))
    rounded = float(np.rint(limit)) + int(np.asarray(constant(output.args[2])))
    return rounded > ends.min if name == "maximum" else rounded < ends.max


def _convolution(builder: Any, plan: Plan, form: Callable[[Any], Any], *, each: bool) -> Any:
    """Emit the sums of a convolution; the padding holds the zero point, and channels that fill up fours.

    ``each``: the sums of depthwise ones are int32 too (``columns.py``).
    """
    from tvm import relax

    attrs, weights = plan.call.attrs, plan.weights
    dense = int(attrs.groups) == 1 and weights.shape[1] >= _FEWEST_INPUTS
    more = -weights.shape[1] % 4 if dense else 0
    top, left, bottom, right = (int(v) for v in attrs.padding)
    x = form(plan.x.integers)
    if top or left or bottom or right or more:
        widths = [0, 0, 0, more, top, bottom, left, right]
        x = builder.emit(relax.op.nn.pad(x, widths, "constant", int(plan.x.zero)))
    if more:
        weights = np.pad(weights, ((0, 0), (0, more), (0, 0), (0, 0)))
    return builder.emit(
        relax.op.nn.conv2d(
            x, relax.const(weights), strides=list(attrs.strides), dilation=list(attrs.dilation), groups=attrs.groups,
            out_dtype="int32" if dense or (each and int(attrs.groups) > 1) else "float32",
        )
    )  # fmt: skip


def _product(builder: Any, plan: Plan, form: Callable[[Any], Any]) -> Any:
    from tvm import relax

    weights, x = plan.weights, form(plan.x.integers)
    more = -weights.shape[0] % 4
    if more:
        widths = [0, 0] * (len(shape_of(x) or ()) - 1) + [0, more]
        x = builder.emit(relax.op.nn.pad(x, widths, "constant", int(plan.x.zero)))
        weights = np.pad(weights, ((0, more), (0, 0)))
    return builder.emit(relax.op.matmul(x, relax.const(weights), out_dtype="int32"))


def _activations(builder: Any, plan: Plan, second: Quantized, form: Callable[[Any], Any]) -> Any:
    """Emit the sums of a product of two activations; zeros fill up fours."""
    from tvm import relax

    a, b = form(plan.x.integers), form(second.integers)
    *lead, terms = shape_of(a) or ()
    zero_a, zero_b = int(plan.x.zero), int(second.zero)
    corrections = []
    if zero_b:
        corrections.append(_total(builder, a, -1, -zero_b))
    if zero_a:
        corrections.append(_total(builder, b, -2, -zero_a))
    if zero_a and zero_b:
        corrections.append(relax.const(np.int32(terms * zero_a * zero_b)))
    if more := -terms % 4:
        none = [0, 0] * (len(lead) - 1)
        a = builder.emit(relax.op.nn.pad(a, [*none, 0, 0, 0, more], "constant", 0))
        b = builder.emit(relax.op.nn.pad(b, [*none, 0, more, 0, 0], "constant", 0))
    value = builder.emit(relax.op.matmul(a, b, out_dtype="int32"))
    for correction in corrections:
        value = builder.emit(relax.op.add(value, correction))
    return value


def _total(builder: Any, integers: Any, axis: int, factor: int) -> Any:
    """Emit the sum along an axis, times a whole number."""
    from tvm import relax

    wide = builder.emit(relax.op.astype(integers, "int32"))
    total = builder.emit(relax.op.sum(wide, axis=[axis], keepdims=True))
    return builder.emit(relax.op.multiply(total, relax.const(np.int32(factor))))
