"""Keeps ONNX Runtime from moving a Pad of zeros into the pool behind it, where that pool would be another one.

A maximum pool pads with minus infinity: where a window holds negative values and padding only, it would answer with one
of these instead of zero. A mean pool whose padding is as large as its windows is one that ONNX Runtime refuses. The
fusion (pad_fusion.cc, ONNX Runtime 1.31.1 and older, from the level "basic" on) asks whether all bits of the value are
zero; those of -0.0 are not, and it is the same number for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.check import propagate_shapes
from edgepack.graph.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from edgepack.specs.types import Array

_VALUE = 2  # the place of the value among a Pad's inputs
_NAME = "edgepack_minus_zero"


def keep_zero_pads(proto: onnx.ModelProto) -> int:
    """Write the zeros that such a pool's input is padded with as -0.0; return how many Pads these are.

    Before opset 11 the value is an attribute, in which no zero differs from another: nothing is done there.
    """
    makers = {name: node for node in all_nodes(proto) for name in node.output}
    pools = [node for node in all_nodes(proto) if node.op_type in ("MaxPool", "AveragePool")]
    return sum(_keep(proto, pad) for pool in pools if (pad := _changing(proto, pool, makers)) is not None)


def _changing(
    proto: onnx.ModelProto, pool: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]
) -> onnx.NodeProto | None:
    """Return the Pad before a pool with which in it the pool would not be the same: a maximum with any, a mean when the
    padding of all up to it is too large. None where there is none.
    """
    import numpy as np

    window = next((list(a.ints) for a in pool.attribute if a.name == "kernel_shape"), [])
    own = next((list(a.ints) for a in pool.attribute if a.name == "pads"), [0] * (2 * len(window)))
    padding = np.reshape(own, (2, -1))
    pad = makers.get(pool.input[0])
    while pad is not None and pad.op_type == "Pad" and len(pad.input) >= _VALUE:
        sizes = _stored(proto, pad.input[1])
        if pool.op_type == "MaxPool" or sizes is None or sizes.size < 2 * len(window):
            return pad
        padding = padding + np.reshape(sizes, (2, -1))[:, -len(window) :]
        if (padding >= window).any():
            return pad
        pad = makers.get(pad.input[0])  # it may become a part of the pool, and then the one before it
    return None


def _keep(proto: onnx.ModelProto, pad: onnx.NodeProto) -> bool:
    import numpy as np
    import onnx

    given = pad.input[_VALUE] if len(pad.input) > _VALUE else ""
    value = _stored(proto, given) if given else _plain_zero(proto, pad)
    if value is None or value.dtype.kind != "f" or value.tobytes().strip(b"\0"):
        return False
    name = f"{_NAME}_{value.dtype.name}"
    if all(tensor.name != name for tensor in proto.graph.initializer):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(-0.0, value.dtype), name))
    pad.input.extend([""] * (_VALUE + 1 - len(pad.input)))
    pad.input[_VALUE] = name
    return True


def _stored(proto: onnx.ModelProto, name: str) -> Array | None:
    import onnx

    tensors = [tensor for graph in all_graphs(proto.graph) for tensor in graph.initializer if tensor.name == name]
    tensors += [
        attribute.t
        for node in all_nodes(proto)
        if node.op_type == "Constant" and node.output[0] == name
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return onnx.numpy_helper.to_array(tensors[0]) if tensors else None


def _plain_zero(proto: onnx.ModelProto, pad: onnx.NodeProto) -> Array | None:
    """Return the zero that stands for no value, in the type of what is padded; None where that is not known."""
    import numpy as np
    import onnx

    typed = propagate_shapes(proto)
    for graph in all_graphs(typed.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.name in (pad.input[0], pad.output[0]) and value.type.tensor_type.elem_type:
                return np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return None
