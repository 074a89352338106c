"""Writes apart what OpenVINO 2026.4 computes with another padding than the graph says, in float as in int8.

- Strides of a convolution of size 1 are taken by what is in front of it: another convolution of size 1, or a step
  through the tensor. What was padded there, or by the convolution itself, or by a Pad, is left out or moved: other
  values, or another size. A Slice in front of the convolution takes its steps instead, behind a Pad of its own.
- Where ``ceil_mode`` adds a window, an AveragePool that counts its padding divides by places beyond it too. Behind a
  Pad that ends where ONNX Runtime's last window does, one that counts none divides by what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    import onnx

_NAME = "edgepack_apart"
_END = 2**31 - 1
# Strides are not taken through these: their windows, or their sums, have an extent.
_ENDS = frozenset({"AveragePool", "ConvTranspose", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool"})


def step_apart(proto: onnx.ModelProto) -> int:
    """Let a Slice take the strides of convolutions of size 1 that meet padding; return how many there were."""
    return sum(_step(graph) for graph in all_graphs(proto.graph))


def pad_ceiled_means_apart(proto: onnx.ModelProto) -> int:
    """Pad in front of means that ``ceil_mode`` would have divided otherwise; return how many there were."""
    shapes = _shapes(proto)
    return sum(_pad_means(graph, shapes) for graph in all_graphs(proto.graph))


def ceiled_means_left(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the means that cannot be written apart, as their sizes are not known."""
    shapes = _shapes(proto)
    for graph in all_graphs(proto.graph):
        yield from (node for node in graph.node if _divides_otherwise(node) and _sizes_apart(node, shapes) is None)


# --- strides ----------------------------------------------------------------------------------------------------------


def _step(graph: onnx.GraphProto) -> int:
    producers = {name: node for node in graph.node for name in node.output if name}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = [node for node in graph.node if _loses_padding(node, producers, stored)]
    for number, node in enumerate(found):
        how, name = _attributes(node), f"{_NAME}_step_{number}_{node.output[0]}"
        pads, strides = list(how["pads"].ints) if _is_padded(node) else [], list(how["strides"].ints)
        _drop(node, "pads", "strides")
        result = node.output[0]
        if pads:
            _put_pad(graph, result, pads, f"{name}_padded")
        _put_slice(graph, result, strides, name)
    return len(found)


def _loses_padding(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], stored: Mapping[str, onnx.TensorProto]
) -> bool:
    how = _attributes(node)
    steps = "strides" in how and any(stride > 1 for stride in how["strides"].ints)
    grouped = "group" in how and how["group"].i > 1
    if node.op_type != "Conv" or grouped or not steps or not _is_single(node, producers, stored):
        return False
    return _is_padded(node) or _meets_padding(node.input[0], producers, stored)


def _meets_padding(name: str, producers: Mapping[str, onnx.NodeProto], stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Say whether there is padding between a tensor and what has an extent in front of it."""
    front, seen = [name], {name}
    while front:
        node = producers.get(front.pop())
        if node is None or node.op_type in _ENDS:
            continue
        read = list(node.input)
        if node.op_type == "Conv":
            if not _is_single(node, producers, stored):
                continue
            read = read[:1]
        if node.op_type == "Pad" or (node.op_type == "Conv" and _is_padded(node)):
            return True
        front += [each for each in read if each and each not in seen]
        seen.update(read)
    return False


def _is_single(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], stored: Mapping[str, onnx.TensorProto]
) -> bool:
    """Say whether the window of a convolution has one place, or may have: weights that are not stored tell nothing."""
    how = _attributes(node)
    if "kernel_shape" in how:
        return all(size == 1 for size in how["kernel_shape"].ints)
    weight = node.input[1]
    while weight in producers and producers[weight].op_type in ("DequantizeLinear", "QuantizeLinear"):
        weight = producers[weight].input[0]
    return weight not in stored or all(size == 1 for size in stored[weight].dims[2:])


def _is_padded(node: onnx.NodeProto) -> bool:
    how = _attributes(node)
    return "pads" in how and any(how["pads"].ints) and ("auto_pad" not in how or how["auto_pad"].s == b"NOTSET")


# --- means ------------------------------------------------------------------------------------------------------------


def _pad_means(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> int:
    found = [(node, _sizes_apart(node, shapes)) for node in graph.node if _divides_otherwise(node)]
    known = [(node, pads) for node, pads in found if pads is not None]
    for number, (node, pads) in enumerate(known):
        _drop(node, "pads", "count_include_pad")
        if any(pads):
            _put_pad(graph, node.output[0], list(pads), f"{_NAME}_mean_{number}_{node.output[0]}")
    return len(known)


def _divides_otherwise(node: onnx.NodeProto) -> bool:
    how = _attributes(node)
    counts = all(name in how and how[name].i for name in ("ceil_mode", "count_include_pad"))
    return node.op_type == "AveragePool" and counts and _is_padded(node)


def _sizes_apart(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> Sequence[int] | None:
    """Return the pads that a mean has without the part behind its last window; None where this depends on its size.

    ONNX Runtime leaves out a window that would begin behind the last column. None begins there where a stride and what
    is padded behind are no longer than the window.
    """
    how = _attributes(node)
    kernel, pads = list(how["kernel_shape"].ints), list(how["pads"].ints)
    rank = len(kernel)
    dilations = list(how["dilations"].ints) if "dilations" in how else [1] * rank
    strides = list(how["strides"].ints) if "strides" in how else [1] * rank
    sizes = list(shapes.get(node.input[0], []))[2:] or [0] * rank
    ends = []
    for size, window, dilation, stride, before, behind in zip(
        sizes, kernel, dilations, strides, pads[:rank], pads[rank:], strict=True
    ):
        reach = dilation * (window - 1) + 1
        if stride + behind <= reach:
            ends.append(behind)
            continue
        if size <= 0:
            return None
        count = -(-(size + before + behind - reach) // stride) + 1
        count -= (count - 1) * stride >= size + before
        ends.append(max(min(behind, (count - 1) * stride + reach - size - before), 0))
    return [*pads[:rank], *ends]


# --- graphs -----------------------------------------------------------------------------------------------------------


def _attributes(node: onnx.NodeProto) -> dict[str, onnx.AttributeProto]:
    return {attribute.name: attribute for attribute in node.attribute}


def _shapes(proto: onnx.ModelProto) -> Mapping[str, Sequence[int]]:
    """Return the shapes of tensors, 0 for a size that is not known; inferred where a mean asks for one not stated."""
    import onnx

    stated = _stated(proto)
    means = [node for graph in all_graphs(proto.graph) for node in graph.node if _divides_otherwise(node)]
    if all(_sizes_apart(node, stated) is not None for node in means):
        return stated
    try:
        return _stated(onnx.shape_inference.infer_shapes(proto))
    except (RuntimeError, ValueError):  # too large a message, or a graph that the engine refuses as well
        return stated


def _stated(proto: onnx.ModelProto) -> dict[str, list[int]]:
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for graph in all_graphs(proto.graph)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _put_pad(graph: onnx.GraphProto, result: str, pads: list[int], name: str) -> None:
    """Let the node that makes ``result`` read its input with zeros around it; ``pads`` as in its attribute."""
    half = len(pads) // 2
    _put(graph, result, "Pad", [[0, 0, *pads[:half], 0, 0, *pads[half:]]], name)


def _put_slice(graph: onnx.GraphProto, result: str, strides: list[int], name: str) -> None:
    """Let the node that makes ``result`` read every ``strides``-th value of its input along the spatial axes."""
    rank = len(strides)
    _put(graph, result, "Slice", [[0] * rank, [_END] * rank, [*range(2, 2 + rank)], strides], name)


def _put(graph: onnx.GraphProto, result: str, operator: str, numbers: list[list[int]], name: str) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    names = [f"{name}_{place}" for place in range(len(numbers))]
    for each, values in zip(names, numbers, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), each))
    place = next(place for place, node in enumerate(graph.node) if node.output[0] == result)
    made = helper.make_node(operator, [graph.node[place].input[0], *names], [name], name=name)
    graph.node[place].input[0] = name
    graph.node.insert(place, made)


def _drop(node: onnx.NodeProto, *names: str) -> None:
    kept: list[Any] = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
