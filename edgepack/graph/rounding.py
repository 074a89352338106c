"""A quantized graph without its rounding: what is left of a difference between two ways to compute it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.clean.view import View

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from edgepack.specs.model import OnnxModel


def unrounded(model: OnnxModel, folder: Path) -> OnnxModel:
    """Return a Q/DQ model whose activations are clipped as their types clip, and not rounded, as a file in ``folder``.

    Its distance from the model itself is the noise of all of its roundings. Inputs and outputs keep their types.
    """
    from edgepack.graph import passes
    from edgepack.graph.load import read_proto, save_proto

    proto = read_proto(model)
    passes.constants_to_initializers(proto)
    clip_only(proto)
    return save_proto(proto, folder, durable=False)


def clip_only(proto: onnx.ModelProto) -> int:
    """Put, in place, a Clip for each QuantizeLinear and the DequantizeLinear that read it; return for how many."""
    import numpy as np
    import onnx

    view, count = View(proto), 0
    for node in list(view.nodes("QuantizeLinear")):
        readers = view.users.get(node.output[0], [])
        scale = view.floats(node.input[1])
        zero = view.value(node.input[2]) if len(node.input) > 2 else np.uint8(0)
        if not readers or not view.is_free(node.output[0]) or scale is None or zero is None or scale.size != 1:
            continue
        if zero.size != 1 or any(r.op_type != "DequantizeLinear" or r.output[0] in view.outputs for r in readers):
            continue
        limits = np.iinfo(zero.dtype)
        ends = (
            np.float32((end - int(zero.reshape(()))) * scale.reshape(())) for end in (int(limits.min), int(limits.max))
        )
        bounds = [view.add_constant(np.asarray(end, np.float32), node.output[0]) for end in ends]
        clipped = view.new_name(node.output[0])
        made = onnx.helper.make_node("Clip", [node.input[0], *bounds], [clipped], name=clipped)
        view.insert_after(node, made)
        for reader in readers:
            view.replace(reader.output[0], clipped)
            view.users.setdefault(clipped, []).extend(view.users.get(reader.output[0], []))
            view.remove(reader)
        view.remove(node)
        count += 1
    return count
