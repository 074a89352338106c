"""Writes IsInf of one sign with a comparison: TVM's reader finds infinities of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.engines.tvm.onnx.edit import Rewriter, attributes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_COMPARISONS = {(0, 1): "Greater", (1, 0): "Less"}  # by detect_negative and detect_positive


def tell_signs(proto: onnx.ModelProto, types: Mapping[str, int]) -> int:
    """Write each IsInf that looks for one sign, or for none, as one for both and a comparison; return how many."""
    import onnx

    rewriter = Rewriter(proto.graph)
    changed = 0
    for node in proto.graph.node:
        signs = _signs(node)
        if signs == (1, 1):
            rewriter.keep(node)
            continue
        changed += 1
        x, y = str(node.input[0]), str(node.output[0])
        kind = onnx.helper.tensor_dtype_to_np_dtype(types.get(x, onnx.TensorProto.FLOAT))
        zero = rewriter.constant(np.zeros((), kind), f"{y}.zero")
        both = rewriter.add("IsInf", [x], f"{y}.both")
        # No number is less than itself: nothing is found where neither sign is looked for.
        side = rewriter.add(_COMPARISONS.get(signs, "Less"), [x, zero if signs in _COMPARISONS else x], f"{y}.side")
        rewriter.add("And", [both, side], [y])
        rewriter.nodes[-1].name = node.name
    if changed:
        rewriter.finish()
    return changed


def _signs(node: onnx.NodeProto) -> tuple[int, int]:
    """Return whether a node looks for negative and positive infinities; both for another operator."""
    if node.op_type != "IsInf":
        return 1, 1
    found = attributes_of(node)
    return int(found.get("detect_negative", 1)), int(found.get("detect_positive", 1))
