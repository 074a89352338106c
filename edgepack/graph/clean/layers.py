"""Layers of three axes and more in one form: a MatMul of the tensor as it comes, its bias, then what splits the result.

TensorFlow and JAX make a matrix of all rows first, multiply that (MatMul, Gemm) and shape it back; Keras adds the bias
of an attention's projection behind its split into heads. Row-major order makes them the same (onnx's Reshape).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.cones import make_node
from edgepack.graph.clean.view import View, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array


def multiply_unflattened(view: View) -> bool:
    """Let one product read the tensor that was made a matrix for it, where its result is shaped back."""
    for node in view.nodes("MatMul", "Gemm"):
        around, weight = _reshapes_around(view, node), view.floats(node.input[1])
        if around is None or weight is None or weight.ndim != 2 or not _is_plain(view, node):
            continue
        flat, back = around
        if view.rank(flat.output[0]) != 2:
            continue
        transposed = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
        matrix = np.ascontiguousarray(weight.T) if transposed else weight
        source = _unflattened(view, node, flat, back, matrix)
        if source is not None:
            _write_product(view, node, back, source, matrix if transposed else None)
            return True
    return False


def _reshapes_around(view: View, node: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """Return the Reshape in front of a node's first input and the one that alone reads its result."""
    before, after = view.producers.get(node.input[0]), view.only_user(node.output[0])
    if before is None or after is None or before.op_type != "Reshape" or after.op_type != "Reshape":
        return None
    return (before, after) if after.input[0] == node.output[0] else None


def _unflattened(
    view: View, node: onnx.NodeProto, flat: onnx.NodeProto, back: onnx.NodeProto, matrix: Array
) -> str | None:
    """Return the tensor that the product can read instead, with all leading axes; None where it cannot."""
    rows, columns = matrix.shape
    before, after, shape = _shape(view, flat.input[0]), view.rank(back.output[0]), view.value(back.input[1])
    if before is not None and before[-1] == rows and 2 < len(before) <= (after or 0):
        return str(flat.input[0])
    if shape is None or shape.size < 3 or shape[-1] != columns or (shape == 0).any():
        return None
    # the axes that the matrix was made of are others: it gets those of the result at once
    made = view.new_name(node.input[0])
    sizes = view.add_constant(np.array([*shape[:-1], rows], np.int64), made)
    position = next(i for i, found in enumerate(view.graph.node) if found is node)
    view.graph.node.insert(position, make_node(view, "Reshape", [flat.input[0], sizes], made))
    return made


def transpose_unflattened(view: View) -> bool:
    """Transpose all axes at once between two Reshapes that make one of the leading ones, and these again."""
    for node in view.nodes("Transpose"):
        around, perm = _reshapes_around(view, node), attribute(node, "perm")
        if around is None:
            continue
        if not perm or perm[0] != 0 or view.only_user(node.input[0]) is not node:
            continue
        flat, back = around
        before, shape = _shape(view, flat.input[0]), view.value(back.input[1])
        leading = len(before) - len(perm) + 1 if before is not None else 0
        if before is None or shape is None or leading < 2 or shape.size != len(before):
            continue
        inner = (_shape(view, flat.output[0]) or [])[1:]
        moved = [leading - 1 + axis for axis in perm[1:]]
        if None in inner or inner != before[leading:] or not _is_same(before[:leading], shape[:leading].tolist()):
            continue
        if [before[axis] for axis in moved] != shape[leading:].tolist():
            continue
        set_attribute(node, "perm", [*range(leading), *moved])
        _join(view, around[0], node, around[1])
        return True
    return False


def _join(view: View, first: onnx.NodeProto, node: onnx.NodeProto, last: onnx.NodeProto) -> None:
    """Let a node read what stood before the node in front, and make what stood behind the one after it."""
    node.input[0] = first.input[0]
    view.forget(node.output[0])
    node.output[0] = last.output[0]
    view.remove(last)
    view.remove(first)


def _is_same(sizes: list[int | str | None], wanted: list[int]) -> bool:
    """Say whether a Reshape gives leading axes the sizes that they have; one may be left to be found."""
    unlike = [want for size, want in zip(sizes, wanted, strict=True) if want != size]
    return unlike in ([], [-1])


def drop_reshape(view: View) -> bool:
    """Drop one Reshape that gives a tensor the shape that it has, or that nothing reads."""
    for node in view.nodes("Reshape"):
        source, result = node.input[0], node.output[0]
        if view.is_free(result) and not view.users.get(result):
            view.remove(node)
            return True
        if _keeps_shape(view, node) and view.is_free(result):
            view.replace(result, source)
            view.remove(node)
            return True
    return False


def _keeps_shape(view: View, node: onnx.NodeProto) -> bool:
    before, after, wanted = (_shape(view, node.input[0]), _shape(view, node.output[0]), view.value(node.input[1]))
    if before is None or len(before) != (len(after) if after is not None else wanted.size if wanted is not None else 0):
        return False
    return (None not in before and before == after) or (wanted is not None and _is_same(before, wanted.tolist()))


def bias_before_reshape(view: View) -> bool:
    """Add one bias to a product before its last axis is split, not behind that."""
    for node in view.nodes("Add"):
        for place, name in enumerate(node.input):
            split, bias = view.producers.get(name), view.floats(node.input[1 - place])
            if split is None or split.op_type != "Reshape" or bias is None or view.only_user(name) is not node:
                continue
            product = view.producers.get(split.input[0])
            if product is None or product.op_type != "MatMul" or view.only_user(product.output[0]) is not split:
                continue
            if _splits_last(view, split, bias):
                _move_bias(view, node, split, bias)
                return True
    return False


def _is_plain(view: View, node: onnx.NodeProto) -> bool:
    """Say whether a product is of rows and weights, with a bias of one number a column."""
    if node.op_type == "MatMul":
        return True
    usual = not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    bias = view.floats(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.float32)
    return usual and bias is not None and math.prod(bias.shape[:-1]) == 1


def _shape(view: View, name: str) -> list[int | str | None] | None:
    """Return a tensor's sizes, names for free ones and None for unknown ones; None where their number is not known."""
    kind = view.types.get(name)
    if kind is None or not kind.HasField("shape"):
        return None
    return [(dim.dim_param or dim.dim_value) if dim.WhichOneof("value") else None for dim in kind.shape.dim]


def _write_product(view: View, node: onnx.NodeProto, back: onnx.NodeProto, source: str, own: Array | None) -> None:
    """Write MatMul and Add on ``source`` in the place of a product, with its ``own`` weights where it turned them."""
    import onnx

    stored = node.input[1] if own is None else view.add_constant(own, node.input[1])
    made = [make_node(view, "MatMul", [source, stored], view.new_name(node.output[0]))]
    if len(node.input) > 2 and node.input[2]:
        bias = view.floats(node.input[2])
        assert bias is not None, "it was looked at"
        flat_bias = view.add_constant(bias.reshape(-1), node.input[2])
        made.append(make_node(view, "Add", [made[0].output[0], flat_bias], view.new_name(node.output[0])))
    leading = (_shape(view, source) or [])[:-1]
    columns = int(view.constants[stored].dims[1])
    for one in made if leading else ():
        kind = onnx.helper.make_tensor_value_info(one.output[0], onnx.TensorProto.FLOAT, [*leading, columns])
        view.graph.value_info.append(kind)
    place = next(i for i, found in enumerate(view.graph.node) if found is node)
    view.forget(node.output[0])
    view.remove(node)
    for offset, one in enumerate(made):
        view.graph.node.insert(place + offset, one)
    back.input[0] = made[-1].output[0]
    shape = view.value(back.input[1])
    if not leading and shape is not None and shape[-1] == columns and view.is_free(back.output[0]):
        view.replace(back.output[0], back.input[0])  # its own shape: the product has it already
        view.remove(back)


def _splits_last(view: View, split: onnx.NodeProto, bias: Array) -> bool:
    """Say whether a Reshape only splits the last axis, into sizes that a bias has its numbers for."""
    before, wanted = _shape(view, split.input[0]), view.value(split.input[1])
    if before is None or wanted is None or wanted.size < len(before) or bias.size != before[-1]:
        return False
    leading, parts = wanted.tolist()[: len(before) - 1], wanted.tolist()[len(before) - 1 :]
    return _is_same(before[:-1], leading) and list(bias.shape)[-len(parts) :] == parts


def _move_bias(view: View, node: onnx.NodeProto, split: onnx.NodeProto, bias: Array) -> None:
    import onnx

    source, result = split.input[0], view.new_name(split.input[0])
    added = make_node(view, "Add", [source, view.add_constant(bias.reshape(-1), source)], result)
    kind = onnx.helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, _shape(view, source))
    view.graph.value_info.append(kind)
    position = next(i for i, found in enumerate(view.graph.node) if found is split)
    view.graph.node.insert(position, added)
    split.input[0] = result
    view.forget(split.output[0])
    split.output[0] = node.output[0]
    view.remove(node)
