"""Folds what scales and shifts channels behind a convolution into its weights: batch norms in every spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array


def fold_affine(view: View) -> bool:
    """Fold one Add, Sub, Mul, Div or BatchNormalization with constants into the convolution before it."""
    for conv in view.nodes("Conv"):
        user = view.only_user(conv.output[0])
        weight = view.floats(conv.input[1])
        bias = view.floats(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        unknown_bias = len(conv.input) > 2 and bool(conv.input[2]) and bias is None
        if user is None or weight is None or unknown_bias or user.domain not in ("", "ai.onnx"):
            continue
        found = _scale_and_offset(view, user, conv.output[0], weight.shape[0], weight.ndim)
        if found is not None:
            _fold(view, conv, user, weight, bias, *found)
            return True
    return False


def _fold(
    view: View,
    conv: onnx.NodeProto,
    user: onnx.NodeProto,
    weight: Array,
    bias: Array | None,
    scale: Array,
    offset: Array,
) -> None:
    import numpy as np

    # in double precision, as the two roundings of float would be seen beside the original's one
    wide = weight.astype(np.float64) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    shifted = (bias.astype(np.float64) if bias is not None else 0.0) * scale + offset
    names = [_changed(view, conv, conv.input[1], wide.astype(np.float32))]
    stored = conv.input[2] if bias is not None else ""
    names.append(_changed(view, conv, stored, shifted.astype(np.float32)))
    first = conv.input[0]
    del conv.input[:]
    conv.input.extend([first, *names])
    view.forget(conv.output[0])
    conv.output[0] = user.output[0]
    view.remove(user)


def _changed(view: View, conv: onnx.NodeProto, name: str, array: Array) -> str:
    """Return the name of a constant with a new value: its own where nothing else reads it."""
    import onnx

    if name and view.only_user(name) is conv:
        view.constants[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
        return name
    return view.add_constant(array, name or conv.input[1])


def _scale_and_offset(
    view: View, user: onnx.NodeProto, tensor: str, channels: int, rank: int
) -> tuple[Array, Array] | None:
    """Return what a node multiplies each channel of ``tensor`` with and then adds; None where it does anything else."""
    import numpy as np

    one, none = np.ones(channels), np.zeros(channels)
    if user.op_type == "BatchNormalization":
        return _of_batch_norm(view, user, tensor)
    if user.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = user.input[0] == tensor
    value = _by_channel(view.floats(user.input[1 if first else 0]), channels, rank)
    if value is None:
        return None
    match user.op_type:
        case "Add":
            return one, value
        case "Sub":
            return (one, -value) if first else (-one, value)
        case "Mul":
            return value, none
    return (1 / value, none) if first and bool((value != 0).all()) else None


def _by_channel(value: Array | None, channels: int, rank: int) -> Array | None:
    """Return a constant as one number a channel of a tensor of ``rank`` axes; None where it varies along others."""
    import numpy as np

    if value is None or value.ndim > rank:
        return None
    aligned = value.reshape([1] * (rank - value.ndim) + list(value.shape))
    if aligned.size not in (1, aligned.shape[1]) or aligned.shape[1] not in (1, channels):
        return None
    return np.broadcast_to(aligned.reshape(-1), (channels,)).astype(np.float64)


def _of_batch_norm(view: View, node: onnx.NodeProto, tensor: str) -> tuple[Array, Array] | None:
    import numpy as np

    values = [view.floats(name) for name in node.input[1:5]]
    if node.input[0] != tensor or any(value is None for value in values) or len(node.output) > 1:
        return None
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale
