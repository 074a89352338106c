"""What a quantized type clips, and Clip between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

Which: TypeAlias = Literal["all", "narrow", "float"]

_MOST = 20_000  # rewrites of one kind: no graph needs as many
_SIX = 6.0
# What never makes a value below zero out of values that are not, so that a Relu in front still holds.
_KEEP_SIGN = frozenset(
    {"AveragePool", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Reshape", "Sigmoid", "Softmax",
     "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip


def move_clips(proto: onnx.ModelProto) -> int:
    """Take, in place, every Clip between QuantizeLinear and DequantizeLinear away; return how many.

    One that is narrower than its type, as Brevitas writes for narrow ranges and fewer bits, is done in float in front,
    unless nothing reaches its bounds. No value changes.
    """
    return _move_all(proto, "all")


def drop_narrow_clips(proto: onnx.ModelProto) -> int:
    """Leave out, in place, every Clip of a pair that spares one level at an end of its type; return how many.

    What was clipped there is then stored one step further out.
    """
    return _move_all(proto, "narrow")


def float_clips(proto: onnx.ModelProto) -> int:
    """Take, in place, every Clip of a pair away, as for a float model; return how many.

    One that cuts at zero leaves a Relu; the other bounds are those of some range that was measured.
    """
    return _move_all(proto, "float")


def _move_all(proto: onnx.ModelProto, which: Which) -> int:
    count = 0
    while count < _MOST and _move_one(View(proto), which):
        count += 1
    return count


def _move_one(view: View, which: Which) -> bool:
    for clip in view.nodes("Clip"):
        quantize, bounds = view.producers.get(clip.input[0]), clip_bounds(view, clip)
        if quantize is None or quantize.op_type != "QuantizeLinear" or bounds is None:
            continue
        read_once = view.is_free(clip.input[0]) and len(view.users[clip.input[0]]) == 1
        scale, zero = view.floats(quantize.input[1]), zero_point(view, quantize)
        if not read_once or not view.is_free(clip.output[0]) or scale is None or zero is None:
            continue
        if scale.size != 1 or zero.size != 1:
            continue
        spared = _spared(view, quantize, bounds, zero)
        if which == "narrow" and not 0 < max(spared) <= 1:
            continue
        limits = [(bound - int(zero.reshape(()))) * scale.reshape(()) for bound in bounds]
        if which == "all" and any(spared):
            _clip_in_front(view, quantize, limits)
        if which == "float" and spared[0] and limits[0] == 0:
            _clip_in_front(view, quantize, [])
        view.replace(clip.output[0], clip.input[0])
        view.forget(clip.output[0])
        view.remove(clip)
        return True
    return False


def _spared(view: View, quantize: onnx.NodeProto, bounds: tuple[int, int], zero: Array) -> tuple[int, int]:
    """Return how many levels of its type a Clip leaves out at both ends, as far as values reach them."""
    limits = np.iinfo(zero.dtype)
    below = max(bounds[0] - int(limits.min), 0)
    if bounds[0] <= int(zero.reshape(())) and never_negative(view, quantize.input[0]):
        below = 0
    return below, max(int(limits.max) - bounds[1], 0)


def _clip_in_front(view: View, quantize: onnx.NodeProto, bounds: list[Array]) -> None:
    """Clip what is quantized to the values that the bounds stand for: rounding keeps the order, so it is the same.

    Without bounds it is a Relu.
    """
    import onnx

    source = quantize.input[0]
    limits = [view.add_constant(np.asarray(bound, np.float32), source) for bound in bounds]
    clipped = view.new_name(f"{source}_clipped")
    position = next(i for i, found in enumerate(view.graph.node) if found is quantize)
    view.graph.node.insert(
        position, onnx.helper.make_node("Clip" if limits else "Relu", [source, *limits], [clipped], name=clipped)
    )
    quantize.input[0] = clipped


def clip_bounds(view: View, clip: onnx.NodeProto) -> tuple[int, int] | None:
    """Return the constant bounds of a Clip of 8-bit integers; None where they are computed, or of other types."""
    found = []
    for place, open_end in ((1, -128), (2, 255)):
        stated = len(clip.input) > place and bool(clip.input[place])
        bound = scalar(view, clip.input[place]) if stated else float(open_end)
        if bound is None or bound != int(bound):
            return None
        found.append(int(bound))
    return found[0], found[1]


def scalar(view: View, name: str) -> float | None:
    """Return a constant that is one number."""
    found = view.value(name) if name else None
    return None if found is None or found.size != 1 else float(found.reshape(()))


# --- the type's own clip ----------------------------------------------------------------------------------------------


def keep_clip(view: View, node: onnx.NodeProto) -> str | None:
    """Put a Relu, or a Clip from 0 to 6, in front of a QuantizeLinear whose type clips at that; return what it makes.

    None where the type does not, or nothing reaches zero from below: quantizers leave activations out of the graph that
    the type does as well.
    """
    import onnx

    bounds = stored_range(view, node)
    if bounds is None or bounds[0] != 0 or never_negative(view, node.input[0]):
        return None
    low, high, step = bounds
    source = node.input[0]
    result = view.new_name(f"{source}_clipped")
    names = [source]
    if abs(high - _SIX) < step:
        names += [view.add_constant(np.asarray(v, np.float32), source) for v in (low, _SIX)]
    made = onnx.helper.make_node("Clip" if len(names) > 1 else "Relu", names, [result], name=result)
    position = next(i for i, found in enumerate(view.graph.node) if found is node)
    view.graph.node.insert(position, made)
    view.producers[result] = made
    return result


def stored_range(view: View, node: onnx.NodeProto) -> tuple[float, float, float] | None:
    """Return the least and the greatest value that a QuantizeLinear can store, and its step."""
    scale, zero = view.floats(node.input[1]), zero_point(view, node)
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    limits, step, middle = np.iinfo(zero.dtype), float(scale.reshape(())), int(zero.reshape(()))
    return (int(limits.min) - middle) * step, (int(limits.max) - middle) * step, step


def never_negative(view: View, name: str) -> bool:
    """Say whether a tensor cannot be negative, as far as that can be seen, or is an input, whose range it means."""
    producer = view.producers.get(name)
    if producer is None or producer.op_type in ("Relu", "Sigmoid", "Softmax"):
        return name not in view.constants
    if producer.op_type == "Clip":
        low = scalar(view, producer.input[1]) if len(producer.input) > 1 and producer.input[1] else None
        return low is not None and low >= 0
    if producer.op_type == "DequantizeLinear":
        before = view.producers.get(producer.input[0])
        bounds = stored_range(view, before) if before is not None and before.op_type == "QuantizeLinear" else None
        return bounds is not None and bounds[0] >= 0
    return producer.op_type in _KEEP_SIGN and all(
        never_negative(view, n) for n in producer.input if n not in view.constants
    )


def zero_point(view: View, node: onnx.NodeProto) -> Array | None:
    """Return the constant zero point of a QuantizeLinear or DequantizeLinear; None where it is computed.

    Without one it is 0 of uint8, or of what ``output_dtype`` says.
    """
    if len(node.input) > 2 and node.input[2]:
        return view.value(node.input[2])
    stated = attribute(node, "output_dtype", 0)
    if node.op_type == "DequantizeLinear":
        tensor = view.constants.get(node.input[0])
        stated = tensor.data_type if tensor is not None else view.types[node.input[0]].elem_type if (
            node.input[0] in view.types) else 0  # fmt: skip
    return np.zeros((), np.int8 if stated == 3 else np.uint8)
