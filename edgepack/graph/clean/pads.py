"""Folds constant paddings into the convolutions and pools behind them; writes means over a picture as pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.clean.view import View, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_UNPADDED = (b"NOTSET", b"VALID")


def fold_pad(view: View) -> bool:
    """Fold one Pad of zeros into all the convolutions that read it, or one of minus infinity into maximum pools."""
    for pad in view.nodes("Pad"):
        users = view.users.get(pad.output[0], [])
        amounts = _spatial(view, pad)
        if amounts is None or not users or not view.is_free(pad.output[0]):
            continue
        kind = _filled_for(view, pad)
        if all(u.op_type == kind and u.input[0] == pad.output[0] and _takes_pads(u, len(amounts)) for u in users):
            for user in users:
                _add_pads(user, amounts)
                user.input[0] = pad.input[0]
            view.remove(pad)
            return True
    return False


def pool_from_mean(view: View) -> bool:
    """Write one mean over height and width as a GlobalAveragePool, which engines know in int8."""
    import numpy as np
    import onnx

    for node in view.nodes("ReduceMean"):
        axes = _axes(view, node)
        if axes is None or view.rank(node.input[0]) != 4 or sorted(a % 4 for a in axes) != [2, 3]:
            continue
        keep = attribute(node, "keepdims", 1)
        node.op_type = "GlobalAveragePool"
        del node.attribute[:], node.input[1:]
        if not keep:
            result = node.output[0]
            node.output[0] = view.new_name(result)
            which = view.add_constant(np.array([2, 3], np.int64), result)
            view.insert_after(
                node,
                onnx.helper.make_node("Squeeze", [node.output[0], which], [result], name=f"{node.output[0]}_squeeze"),
            )
        return True
    return False


def _axes(view: View, node: onnx.NodeProto) -> list[int] | None:
    if len(node.input) > 1 and node.input[1]:
        found = view.value(node.input[1])
        return None if found is None else [int(axis) for axis in found]
    listed = attribute(node, "axes")
    return None if listed is None else list(listed)


def _spatial(view: View, pad: onnx.NodeProto) -> list[int] | None:
    """Return begins and ends of all axes but the first two, where those are not padded and nothing is cut."""
    found: Array | list[int] | None = view.value(pad.input[1]) if len(pad.input) > 1 else attribute(pad, "pads")
    if found is None or attribute(pad, "mode", b"constant") != b"constant" or (len(pad.input) > 3 and pad.input[3]):
        return None
    amounts = [int(amount) for amount in found]
    half = len(amounts) // 2
    outside = [*amounts[:2], *amounts[half : half + 2]]
    if half < 3 or any(outside) or any(amount < 0 for amount in amounts):
        return None
    return [*amounts[2:half], *amounts[half + 2 :]]


def _filled_for(view: View, pad: onnx.NodeProto) -> str | None:
    """Return the operator that pads with the same value: zero for Conv, minus infinity for MaxPool."""
    import numpy as np

    if len(pad.input) < 3 or not pad.input[2]:
        value = attribute(pad, "value", 0.0)
    elif (stored := view.value(pad.input[2])) is not None and stored.size == 1:
        value = float(stored.reshape(()))
    else:
        return None
    return "Conv" if value == 0 else "MaxPool" if np.isneginf(value) else None


def _takes_pads(node: onnx.NodeProto, count: int) -> bool:
    plain = attribute(node, "auto_pad", b"NOTSET") in _UNPADDED and not attribute(node, "ceil_mode", 0)
    return plain and len(attribute(node, "pads", [0] * count)) == count and len(node.output) == 1


def _add_pads(node: onnx.NodeProto, amounts: list[int]) -> None:
    valid = attribute(node, "auto_pad", b"NOTSET") == b"VALID"
    before = [0] * len(amounts) if valid else attribute(node, "pads", [0] * len(amounts))
    set_attribute(node, "auto_pad", "NOTSET")
    set_attribute(node, "pads", [a + b for a, b in zip(before, amounts, strict=True)])
