"""Writes Pow of different types with casts: TVM wants both operands of one type, ONNX does not (opset 12 on)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.tvm.onnx.edit import Rewriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_FLOATS = (1, 10, 11, 16)  # FLOAT, FLOAT16, DOUBLE and BFLOAT16 of onnx.proto
_FLOAT = 1


def match_powers(proto: onnx.ModelProto, types: Mapping[str, int]) -> int:
    """Cast what differs, in place, and return in how many nodes; the result keeps the base's type, as ONNX says."""
    rewriter = Rewriter(proto.graph)
    changed = 0
    for node in proto.graph.node:
        base, exponent = (types.get(name) for name in node.input) if node.op_type == "Pow" else (None, None)
        if base is None or exponent is None or base == exponent:
            rewriter.keep(node)
            continue
        changed += 1
        wide = base if base in _FLOATS else _FLOAT if exponent not in _FLOATS else exponent
        x, y = (
            name if kind == wide else rewriter.add("Cast", [name], f"{name}.cast", {"to": wide})
            for name, kind in zip(node.input, (base, exponent), strict=True)
        )
        if wide == base:
            rewriter.add("Pow", [x, y], [str(node.output[0])])
            rewriter.nodes[-1].name = node.name
        else:
            power = rewriter.add("Pow", [x, y], f"{node.output[0]}.wide")
            rewriter.add("Cast", [power], [str(node.output[0])], {"to": base})
    if changed:
        rewriter.finish()
    return changed
