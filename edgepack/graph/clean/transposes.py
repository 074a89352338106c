"""Moves transposes down until they meet and cancel: exporters of NHWC frameworks put two around each convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.clean.view import View, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

# Each element by itself; further inputs are single numbers.
_UNARY = (
    "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus",
    "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu")
_REDUCE = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")


def drop_identity(view: View) -> bool:
    """Drop one Identity, or one Transpose that changes no order."""
    for node in view.nodes("Identity", "Transpose"):
        perm = _perm(node)
        passes_on = node.op_type == "Identity" or (perm is not None and perm == sorted(perm))
        if passes_on and _bypass(view, node):
            return True
    return False


def _bypass(view: View, node: onnx.NodeProto) -> bool:
    """Take out a node that passes its input on; what makes an output of the model gives it its name."""
    source, result = node.input[0], node.output[0]
    if view.is_free(result) and source not in view.constants:
        view.replace(result, source)
    elif result not in view.inner and source in view.producers and view.only_user(source) is node:
        producer = view.producers[source]
        producer.output[list(producer.output).index(source)] = result
        view.forget(source)
    else:
        return False
    view.remove(node)
    return True


def merge_transposes(view: View) -> bool:
    """Make one Transpose of two that follow each other; one that nothing reads any more goes."""
    for node in view.nodes("Transpose"):
        if view.is_free(node.output[0]) and not view.users.get(node.output[0]):
            view.remove(node)
            return True
        before = view.producers.get(node.input[0])
        first, second = _perm(before), _perm(node)
        if before is not None and first is not None and second is not None:
            set_attribute(node, "perm", [first[axis] for axis in second])
            node.input[0] = before.input[0]
            return True
    return False


def push_transpose(view: View) -> bool:
    """Move one Transpose behind a node that computes the same in another order of axes."""
    for node in list(view.graph.node):
        if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
            continue
        perm = _shared_perm(view, node)
        if perm is not None and _reorder(view, node, perm):
            return True
    return False


def _perm(node: onnx.NodeProto | None) -> list[int] | None:
    if node is None or node.op_type != "Transpose":
        return None
    found = attribute(node, "perm")
    return None if found is None else list(found)


def _shared_perm(view: View, node: onnx.NodeProto) -> list[int] | None:
    """Return the order that all inputs of a node come in, constants aside; None where they differ."""
    data = _data_inputs(node)
    producers = [view.producers.get(name) for name in data if name not in view.constants]
    perms = [_perm(producer) for producer in producers]
    if not perms or any(perm is None or perm != perms[0] for perm in perms):
        return None
    return perms[0]


def _data_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the inputs whose axes are those of the output."""
    if node.op_type in (*_BINARY, "Concat"):
        return list(node.input)
    return list(node.input[:1])


def _reorder(view: View, node: onnx.NodeProto, perm: list[int]) -> bool:
    """Let a node work in the order before the transposes; its output is transposed instead."""
    import onnx

    after = _adapt(view, node, perm)
    if after is None:
        return False
    for index, name in enumerate(node.input):
        producer = view.producers.get(name)
        if (
            name in _data_inputs(node)
            and producer is not None
            and _perm(producer) == perm
            and name not in view.constants
        ):
            node.input[index] = producer.input[0]
    if after == sorted(after):
        return True
    result = node.output[0]
    kind = view.types[result].elem_type if result in view.types else 1
    node.output[0] = view.new_name(result)
    view.state_rank(node.output[0], kind, len(after))
    name = f"{node.output[0]}_transpose"  # as unique as the tensor's
    view.insert_after(node, onnx.helper.make_node("Transpose", [node.output[0]], [result], name=name, perm=after))
    return True


def _adapt(view: View, node: onnx.NodeProto, perm: list[int]) -> list[int] | None:
    """Change a node's own axes and constants to the order before; return the order of its output, None if it cannot."""
    if node.op_type in _UNARY:
        return perm if all(_is_number(view, name) for name in node.input[1:]) else None
    if node.op_type in _BINARY:
        return perm if _permute_constants(view, node, perm) else None
    if node.op_type in ("Concat", "Softmax", "LogSoftmax"):
        if any(name in view.constants for name in node.input):
            return None
        default = None if node.op_type == "Concat" else -1
        axis = attribute(node, "axis", default)
        set_attribute(node, "axis", perm[axis % len(perm)])
        return perm
    if node.op_type in _REDUCE:
        return _permute_reduction(view, node, perm)
    return _permute_pad(view, node, perm) if node.op_type == "Pad" else None


def _is_number(view: View, name: str) -> bool:
    value = view.value(name) if name else None
    return not name or (value is not None and value.size == 1)


def _permute_constants(view: View, node: onnx.NodeProto, perm: list[int]) -> bool:
    """Write the constants beside the element in the other order; all tensors must have as many axes."""
    import numpy as np

    for name in node.input:
        value = view.value(name)
        if name in view.constants and (value is None or value.ndim > len(perm)):
            return False
    back = list(np.argsort(perm))
    for index, name in enumerate(node.input):
        found = view.value(name)
        if found is None or found.size == 1:
            continue
        wide: Array = found.reshape([1] * (len(perm) - found.ndim) + list(found.shape))
        node.input[index] = view.add_constant(np.ascontiguousarray(wide.transpose(back)), name)
    return True


def _permute_reduction(view: View, node: onnx.NodeProto, perm: list[int]) -> list[int] | None:
    import numpy as np

    inputs = len(node.input) > 1 and bool(node.input[1])
    axes = view.value(node.input[1]) if inputs else attribute(node, "axes")
    if axes is None:
        return None
    reduced = [perm[int(axis) % len(perm)] for axis in axes]
    if inputs:
        node.input[1] = view.add_constant(np.array(reduced, np.int64), node.input[1])
    else:
        set_attribute(node, "axes", reduced)
    if attribute(node, "keepdims", 1):
        return perm
    left = [axis for axis in perm if axis not in reduced]
    return [sorted(left).index(axis) for axis in left]


def _permute_pad(view: View, node: onnx.NodeProto, perm: list[int]) -> list[int] | None:
    import numpy as np

    amounts = view.value(node.input[1]) if len(node.input) > 1 else None
    if amounts is None or amounts.size != 2 * len(perm) or (len(node.input) > 3 and node.input[3]):
        return None
    back = np.argsort(perm)
    begins, ends = amounts[: len(perm)][back], amounts[len(perm) :][back]
    node.input[1] = view.add_constant(np.concatenate([begins, ends]), node.input[1])
    return perm
