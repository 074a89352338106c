"""Moves the activations of a model that came quantized from int8 to uint8, for engines that fuse only those.

The step and every value stay: q + 128 with zero point z + 128 stands for the same number, and clips at the same ones.
ONNX Runtime 1.31.1 does this by itself to some tensors only, not to those of skip connections, and a convolution
between one of each kind runs in float: of ResNet8 out of TensorFlow Lite 3 of 9 convolutions ran in int8 and it took
0.182 ms, afterwards 8 and 0.083 ms (median CPU time of 300 inferences, one thread, an EPYC with AVX-512 and VNNI).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph import passes
from edgepack.graph.clean.view import View
from edgepack.graph.load import read_proto, save_proto

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from edgepack.specs.model import OnnxModel

NOTE = "edgepack.signedness"
_SHIFT = 128


def as_unsigned(model: OnnxModel, folder: Path) -> OnnxModel:
    """Return the model with activations in uint8, as a file in ``folder``; the model itself where none can be moved.

    Inputs and outputs keep their types. The metadata entry ``edgepack.signedness`` says how many were moved.
    """
    if not passes.is_quantized(read_proto(model, weights=False)):
        return model
    proto = read_proto(model)
    moved = move_to_unsigned(proto)
    if not moved:
        return model
    passes.set_metadata(proto, NOTE, f"{moved} activations from int8 to uint8, which changes no value")
    return save_proto(proto, folder, durable=False)


def move_to_unsigned(proto: onnx.ModelProto) -> int:
    """Move, in place, every int8 activation that only DequantizeLinear nodes read; return how many."""
    passes.constants_to_initializers(proto)
    view, moved = View(proto), 0
    for quantize in list(view.nodes("QuantizeLinear")):
        readers = view.users.get(quantize.output[0], [])
        zero = _zero_point(view, quantize)
        if zero is None or not readers or not view.is_free(quantize.output[0]):
            continue
        if not all(r.op_type == "DequantizeLinear" and _zero_point(view, r) == zero for r in readers):
            continue
        _move(view, [quantize, *readers], zero + _SHIFT)
        view.forget(quantize.output[0])
        moved += 1
    passes.drop_unused_initializers(proto)
    return moved


def _zero_point(view: View, node: onnx.NodeProto) -> int | None:
    """Return a node's zero point where it is one int8 number; None where it is another type, or one a channel."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    found, scale = view.value(node.input[2]), view.value(node.input[1])
    if found is None or scale is None or found.dtype.name != "int8" or found.size != 1 or scale.size != 1:
        return None
    return int(found.reshape(()))


def _move(view: View, nodes: list[onnx.NodeProto], zero: int) -> None:
    """Give nodes of one activation an unsigned zero point of the shape that each had."""
    import numpy as np

    for node in nodes:
        before = view.value(node.input[2])
        assert before is not None, "it was read a moment ago"
        node.input[2] = view.add_constant(np.full(before.shape, zero, np.uint8), node.input[2])
        for index in reversed(range(len(node.attribute))):
            if node.attribute[index].name == "output_dtype":
                del node.attribute[index]
