"""Which convolutions and products are computed by the kernels of ``compute.py``; all others keep TVM's own form."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen import (
    amx,
    angles,
    approximations,
    columns,
    compute,
    extremes,
    intrinsics,
    powers,
    rounding,
    spread,
    winograd,
)
from edgepack.engines.tvm.codegen import tile as blocking
from edgepack.engines.tvm.codegen.relax_util import INJECTIVE, OPAQUE, OUT_ELEMENTWISE_FUSABLE, constant, shape_of
from edgepack.engines.tvm.codegen.window import EIGHT, TERMS, Window
from edgepack.engines.tvm.codegen.workload import Choice, Workload, by_patches, by_rule, instruction

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.extremes import Legalization
    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.tile import Blocking
    from edgepack.engines.tvm.codegen.workload import Choose
    from edgepack.specs.types import Array

_FEWEST_COLUMNS = 4
_NO_WINDOW = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1)
# Types of activations, weights and sums that the kernels take.
_KINDS = frozenset(
    {("float32", "float32", "float32"), ("float16", "float16", "float32")}
    | {(activation, "int8", sums) for activation in ("uint8", "int8") for sums in ("int32", "float32")}
)


def legalizations(machine: Machine, choose: Choose | None = None) -> Mapping[str, Legalization]:
    """Return what ``relax.transform.LegalizeOps`` takes: a function (builder, call) -> expression for each operator.

    ``choose`` gives each kernel's tile; without it the rule does.
    """
    chooser = TileChooser(machine, choose or by_rule(machine))
    functions = {**approximations.FUNCTIONS, **angles.FUNCTIONS}
    rules: dict[str, Callable[[Any, Any], Any]] = {
        "relax.nn.conv2d": lambda builder, call: _conv2d(builder, call, chooser),
        "relax.matmul": lambda builder, call: _matmul(builder, call, chooser),
        "relax.nn.pad": _pad,
        "relax.quantize": lambda builder, call: rounding.quantize(builder, call, machine),
        "relax.nn.softmax": functools.partial(_softmax, approximations.softmax),
        "relax.nn.log_softmax": functools.partial(_softmax, approximations.log_softmax),
        "relax.nn.layer_norm": _layer_norm,
        "relax.power": powers.rule,
        **extremes.RULES,
        **spread.RULES,
        **{name: functools.partial(_value, function) for name, function in functions.items()},
    }
    return {name: functools.partial(extremes.or_default, rule) for name, rule in rules.items()}


@dataclass(frozen=True)
class TileChooser:
    """The machine, and who chooses the tiles."""

    machine: Machine
    choose: Choose

    def __call__(self, workload: Workload) -> tuple[Choice, str | None, bool]:
        """Return the tile, the tensor intrinsic that it is for, and whether that takes weights in fours."""
        choice = self.choose(workload)
        return choice, *intrinsic(workload, choice.tile, self.machine)


def intrinsic(workload: Workload, tile: Blocking, machine: Machine) -> tuple[str | None, bool]:
    """Return the name of the tensor intrinsic, registered with TVM, and whether it takes weights in fours."""
    found = instruction(workload, tile, machine)
    if isinstance(found, intrinsics.Dot):
        return intrinsics.register(found), True
    return (None if found is None else intrinsics.register_fmlal()), False


def _value(function: Callable[[Any], Any], builder: Any, call: Any) -> Any:
    if str(call.args[0].ty.dtype) != "float32":
        return None
    return builder.call_te(approximations.elementwise(function), call.args[0], primfunc_name_hint="value")


def _softmax(function: Callable[[Any, int], Any], builder: Any, call: Any) -> Any:
    x, shape = call.args[0], shape_of(call.args[0])
    if str(x.ty.dtype) != "float32" or not shape:
        return None
    axis = int(call.attrs.axis) % len(shape)
    return builder.call_te(function, x, axis, primfunc_name_hint=function.__name__)


def _pad(builder: Any, call: Any) -> Any:
    """Return the padding of a quantized tensor as a function of its own: fusing must keep the producer's shape.

    What comes from an input of the model is put in order and padded in one pass.
    """
    from tvm import tirx, topi

    x, attrs = call.args[0], call.attrs
    dtype = str(x.ty.dtype)
    if dtype not in ("uint8", "int8") or str(attrs.pad_mode) != "constant":
        return None
    widths = [int(width) for width in attrs.pad_width]
    value = tirx.const(int(attrs.pad_value), dtype)

    def build(data: Any) -> Any:
        return topi.nn.pad(data, widths[::2], widths[1::2], value)

    pattern = INJECTIVE if _is_input(builder, x) else OPAQUE
    return builder.call_te(build, x, primfunc_name_hint="pad", primfunc_attrs={"op_pattern": pattern})


def _is_input(builder: Any, variable: Any) -> bool:
    """Say whether a variable is an input of the model, or made of one tensor after the other from one."""
    while (value := builder.lookup_binding(variable)) is not None:
        if getattr(getattr(value, "op", None), "name", "") != "relax.call_tir" or len(value.args[1].fields) != 1:
            return False
        function = builder.get()[value.args[0]]
        if int((function.attrs or {}).get("op_pattern", INJECTIVE)) != INJECTIVE:
            return False
        (variable,) = value.args[1].fields
    return True


def _layer_norm(builder: Any, call: Any) -> Any:
    x, gamma, beta = call.args
    attrs, shape = call.attrs, shape_of(x)
    if str(x.ty.dtype) != "float32" or not shape or not (attrs.center and attrs.scale):
        return None
    axes = sorted(int(axis) % len(shape) for axis in attrs.axes)
    if axes != list(range(len(shape) - len(axes), len(shape))):
        return None
    build = functools.partial(approximations.layer_norm, axes=axes, epsilon=float(attrs.epsilon))
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


def emit(builder: Any, build: compute.Build, *inputs: Any, name: str) -> Any:
    """Return a call of a new function that elementwise operators may be fused into."""
    return builder.call_te(
        build, *inputs, primfunc_name_hint=name, primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}
    )


def _conv2d(builder: Any, call: Any, chooser: TileChooser) -> Any:
    """Return a convolution by our kernels, or None where they do not cover it."""
    from tvm import relax

    x, weights = call.args[0], constant(call.args[1])
    shape, attrs = shape_of(x), call.attrs
    kind = (str(x.ty.dtype), "" if weights is None else str(weights.dtype), str(call.ty.dtype))
    if weights is None or shape is None or kind not in _KINDS:
        return None
    if str(attrs.kernel_layout) != "OHWI" or str(attrs.out_layout) != "NHWC":
        return None
    channels_first = str(attrs.data_layout) == "NCHW"
    if channels_first:
        shape = (shape[0], *shape[2:], shape[1])
    outputs, high, wide, inputs = weights.shape
    window = window_of(call, (high, wide))
    batch, size = int(shape[0]), window.output(*shape[1:3])
    if window.groups > 1 and inputs == 1 and outputs == window.groups:
        return _depthwise(builder, x, weights, window, (batch, *size), kind, chooser)
    if kind[1] == "int8" and kind[2] != "int32":
        weights = weights.astype(np.float32)  # few input channels: exact sums in float32
        kind = (kind[0], "float32", kind[2])
    if kind[2] == "int32" and not channels_first:
        made = _by_matrices(builder, x, weights, window, chooser.machine)
        if made is not None:
            return made
    if window.pointwise and not channels_first and window.groups == 1:
        work = Workload("flat", kind, 1, 1, int(np.prod(shape[:3])), inputs, outputs, safe=_safe(weights))
        choice, intrinsic, fours = chooser(work)
        packed = compute.pack_weights(weights, choice.tile.channels, fours=fours)
        build = compute.pointwise(choice, outputs, kind[2], intrinsic)
        return emit(builder, build, x, relax.const(packed[:, 0, 0]), name="convolution1x1")
    work = Workload(
        "window", kind, batch, *size, inputs, outputs, window.kernel, window.strides, window.padding, window.dilation,
        window.groups, channels_first, _safe(weights),
    )  # fmt: skip
    return _window(builder, x, weights, by_patches(work, chooser.machine), chooser)


def _window(builder: Any, x: Any, weights: Array, work: Workload, chooser: TileChooser) -> Any:
    """Return a convolution over a window, by patches or not; None where a tile would be of several groups."""
    from tvm import relax

    choice, intrinsic, fours = chooser(work)
    channels = choice.tile.channels
    if work.kind == "winograd":
        build, packed = winograd.convolution(choice, work.window, work.outputs), winograd.pack(weights, channels)
        return emit(builder, build, x, relax.const(packed), name="convolution")
    if work.groups > 1 and work.outputs // work.groups % channels:
        return None
    build = compute.convolution(
        choice, work.window, work.outputs, work.types[2], intrinsic, channels_first=work.channels_first
    )
    packed = compute.pack_weights(weights, channels, fours=fours)
    return emit(builder, build, x, relax.const(packed), name="convolution")


def _by_matrices(builder: Any, x: Any, weights: Array, window: Window, machine: Machine) -> Any:
    """Return a convolution or product of bytes by AMX or SMMLA, or None where the machine has neither."""
    made = _tiles(builder, x, weights, window, machine)
    return _matrix(builder, x, weights, window, machine) if made is None else made


def _matrix(builder: Any, x: Any, weights: Array, window: Window, machine: Machine) -> Any:
    """Return a convolution or product of int8 by SMMLA, for int8 weights [output, ..., input]; None without it."""
    from tvm import relax

    shape = shape_of(x)
    if not machine.has_smmla or window.groups != 1 or weights.shape[-1] % EIGHT or shape is None:
        return None
    if str(x.ty.dtype) != "int8" or weights.dtype != np.int8:
        return None
    sizes = shape[:-1] if window.pointwise else (shape[0], *window.output(*shape[1:3]))
    outputs, terms = weights.shape[0], weights[0].size // EIGHT
    tile = blocking.pairs(int(np.prod(sizes)), outputs, terms, machine)
    build = compute.matrix(Choice(tile), window, outputs, intrinsics.register_smmla())
    return emit(builder, build, x, relax.const(compute.pack_eights(weights, tile.channels)), name="matrix")


def _tiles(builder: Any, x: Any, weights: Array, window: Window, machine: Machine) -> Any:
    """Return a convolution or product of bytes by AMX, for int8 weights [output, ..., input]; None without it."""
    from tvm import relax

    shape = shape_of(x)
    if not machine.has_amx or window.groups != 1 or any(window.padding) or shape is None:
        return None
    if str(x.ty.dtype) != "uint8" or weights.dtype != np.int8 or weights.shape[-1] % TERMS:
        return None
    outputs, inputs, fours = weights.shape[0], weights.shape[-1], weights[0].size // TERMS
    grid = (1, math.prod(shape[:-1])) if window.pointwise else window.output(*shape[1:3])
    tiles = amx.choose(*amx.lines_of(window, inputs), inputs * window.strides[1], grid, outputs)
    vectors = blocking.choose(*grid, outputs, fours, machine, item_bytes=TERMS)
    if amx.cycles(tiles, grid, outputs) >= blocking.cycles(vectors, *grid, outputs, fours):
        return None
    outer = weights.size > math.prod(shape)
    whole = Choice(blocking.Blocking(tiles.high, tiles.positions, tiles.vectors, amx.LANES, outer))
    attrs = {**compute.annotation("tiles", whole, amx.INSTRUCTION), **amx.annotation(tiles)}
    build = amx.flat(tiles, outputs, attrs) if window.pointwise else amx.convolution(tiles, window, outputs, attrs)
    return emit(builder, build, x, relax.const(amx.pack(weights, tiles)), name="tiles")


def _depthwise(
    builder: Any, x: Any, weights: Array, window: Window, size: tuple[int, int, int], kind: tuple[str, str, str],
    chooser: TileChooser,
) -> Any:  # fmt: skip
    from tvm import relax

    channels = weights.shape[0]
    work = Workload(
        "depthwise", kind, *size, 1, channels, window.kernel, window.strides, window.padding, window.dilation, channels
    )
    choice, _, _ = chooser(work)
    if channels % choice.tile.channels:
        return None
    if kind[2] == "int32":
        return _columns(builder, x, weights, window, choice, chooser.machine)
    flat = np.ascontiguousarray(weights[..., 0].transpose(1, 2, 0))
    return emit(builder, compute.depthwise(choice, window), x, relax.const(flat), name="depthwise")


def _columns(builder: Any, x: Any, weights: Array, window: Window, choice: Choice, machine: Machine) -> Any:
    """Return a depthwise convolution of bytes by columns, or None where the machine has no instruction for it."""
    from tvm import relax

    found = intrinsics.dot_for(machine, choice.tile.lanes, safe=False)
    if found is None or any(window.padding) or str(x.ty.dtype) != found.activations:
        return None
    build = columns.convolution(choice, window, intrinsics.register(dataclasses.replace(found, form="each")))
    return emit(builder, build, x, relax.const(columns.pack(weights)), name="depthwise")


def _safe(weights: Array) -> bool:
    """Say whether no two neighbouring int8 weights [output, ..., input] can exceed 16 bits with uint8 activations."""
    if weights.dtype != np.int8 or weights.shape[-1] % TERMS:
        return False
    pairs = weights.astype(np.int32).reshape(-1, 2)
    return int(np.abs(pairs.sum(axis=1)).max(initial=0)) <= intrinsics.PAIR_LIMIT


def _batched_bytes(builder: Any, a: Any, b: Any, machine: Machine) -> Any:
    """Return a product of two activations in int32, or None where the machine has no instruction for it."""
    left, right = shape_of(a) or (), shape_of(b) or ()
    if not intrinsics.multiplies_activations(machine) or str(a.ty.dtype) != intrinsics.activation_type(machine):
        return None
    tile = blocking.choose(1, left[-2], right[-1], left[-1] // TERMS, machine, item_bytes=TERMS)
    found = intrinsics.dot_for(machine, tile.lanes, safe=False)
    if found is None:
        return None
    build = compute.batched_bytes(Choice(tile), intrinsics.register(dataclasses.replace(found, form="words")))
    return emit(builder, build, a, b, name="batched_product")


def _matmul(builder: Any, call: Any, chooser: TileChooser) -> Any:
    """Return a product by our kernels, or None where they do not cover it."""
    from tvm import relax

    a, b = call.args
    left, right = shape_of(a), shape_of(b)
    kind = (str(a.ty.dtype), str(b.ty.dtype), str(call.ty.dtype))
    if left is None or right is None or kind not in _KINDS or len(left) < 2 or len(right) < 2:
        return None
    weights = constant(b)
    if weights is not None and weights.ndim == 2 and weights.shape[1] >= _FEWEST_COLUMNS:
        terms, outputs = weights.shape
        turned = np.ascontiguousarray(weights.T)
        if kind[2] == "int32" and (made := _by_matrices(builder, a, turned, _NO_WINDOW, chooser.machine)) is not None:
            return made
        work = Workload("flat", kind, 1, 1, int(np.prod(left[:-1])), terms, outputs, safe=_safe(turned))
        choice, intrinsic, fours = chooser(work)
        packed = compute.pack_weights(turned, choice.tile.channels, fours=fours)
        build = compute.pointwise(choice, outputs, kind[2], intrinsic)
        return emit(builder, build, a, relax.const(packed), name="product")
    integer = kind[2] == "int32"
    if integer and weights is None and left[:-2] == right[:-2] and left[-1] % TERMS == 0:
        return _batched_bytes(builder, a, b, chooser.machine)
    if integer or kind[1] == "int8" or left[:-2] != right[:-2] or right[-1] % _FEWEST_COLUMNS:
        return None
    batch = int(np.prod(left[:-2]))
    choice, _, _ = chooser(Workload("batched", kind, batch, 1, left[-2], left[-1], right[-1]))
    return emit(builder, compute.batched(choice), a, b, name="batched_product")
