"""Writes graphs so that OpenVINO 2026.4 computes what they say, where it would not.

- Where alpha, beta or gamma of a HardSigmoid or Selu is 0 its default is read; a number beside which nothing is lost
  stands for 0.
- Padding in front of strides, and beside windows that ``ceil_mode`` adds, is written apart (``paddings.py``).

Of int8 graphs:

- An AveragePool is computed on the integers, which are padded with 0: that stands for zero only where the zero point
  is 0 (measured: with a zero point of 128 every mean at the border is off by its share of -128 steps). Padded by a Pad
  with a pair of the same scale behind it the mean is right: zero is one of the steps. That of a sequence is not, and
  ``ceil_mode`` would find another window at the end.
- A ReduceMean or ReduceSum of [batch, length, width] over the length is right for the first sample alone, and a
  ReduceSum or ReduceLogSum forgets the zero point of all values but one. A Pad puts another number than its own around
  the integers; that of a sequence puts another than zero in front of a convolution, or is refused. A Max with -infinity
  in front of these and of the other means, which changes no value, is where the integers end.
- A ReduceMax, ReduceMin or GlobalMaxPool rounds to whole numbers when a QuantizeLinear with a zero point is computed
  inside it. Behind a Max with -infinity it is not.
- Where a constant of integers with fewer axes than what it is added to has a Reshape or Flatten behind it, the engine
  divides by zero and ends the process (SIGFPE). With leading axes of 1 it has as many.
- Dense layers without a bias lose their scale in a kernel of several (``dense_sequences.py``).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from edgepack.engines.common.lowest import is_max, make_max, store_lowest
from edgepack.engines.openvino.dense_sequences import part_sequences
from edgepack.engines.openvino.paddings import pad_ceiled_means_apart, step_apart
from edgepack.graph.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    import onnx

# What hands values on as they are, or as zero: what they are steps of stays.
_MOVES = frozenset(
    {
        "DepthToSpace", "Flatten", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_NAME = "edgepack_padded"
_LEAST = 1e-30
_READ_AS_DEFAULT = {"HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma")}


_ADDS = ("Add", "Sub")
_PLAIN_SUMS = ("ReduceLogSum", "ReduceSum")
_EXTREMES = ("GlobalMaxPool", "ReduceMax", "ReduceMin")
_FLOAT32 = 1  # TensorProto.FLOAT of onnx.proto
_SEQUENCE_RANK = 3


def repair(proto: onnx.ModelProto, *, int8: bool) -> int:
    """Rewrite in place what would be computed otherwise; return how many nodes these are. No value changes."""
    changed = say_zeros(proto) + step_apart(proto) + pad_ceiled_means_apart(proto)
    if not int8:
        return changed
    changed += pad_means_apart(proto) + end_integers(proto) + keep_extremes(proto) + fill_ranks(proto)
    return changed + part_sequences(proto)


def say_zeros(proto: onnx.ModelProto) -> int:
    """Give attributes that are 0 and would be read as their default the least value that is read; return how many."""
    zeros = [
        attribute
        for node in all_nodes(proto)
        for attribute in node.attribute
        if attribute.name in _READ_AS_DEFAULT.get(node.op_type, ()) and attribute.f == 0
    ]
    for attribute in zeros:
        attribute.f = _LEAST
    return len(zeros)


def end_integers(proto: onnx.ModelProto) -> int:
    """Let what OpenVINO gets wrong of dequantized values be computed of float ones; return how many nodes these are.

    Means over the last axis alone, as norms have them, and those of pictures are right: they stay.
    """
    ranks = _ranks(proto)
    return sum(_end(graph, ranks) for graph in all_graphs(proto.graph))


def keep_extremes(proto: onnx.ModelProto) -> int:
    """Put a Max behind each greatest or least of float values, so that it is not rounded; return how many there are."""
    types = _types(proto)
    return sum(_keep(graph, types) for graph in all_graphs(proto.graph))


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    return {name: len(kind.shape.dim) for name, kind in _types(proto).items() if kind.HasField("shape")}


def _types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    return {
        value.name: value.type.tensor_type
        for graph in all_graphs(proto.graph)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


def _keep(graph: onnx.GraphProto, types: dict[str, onnx.TypeProto.Tensor]) -> int:

    kept = {node.input[0] for node in graph.node if is_max(node)}
    found = [
        node
        for node in graph.node
        if node.op_type in _EXTREMES
        and node.output[0] not in kept
        and any(name in types and types[name].elem_type == _FLOAT32 for name in (node.input[0], node.output[0]))
    ]
    for node in found:
        result, name = node.output[0], f"{node.output[0]}_extreme"
        node.output[0] = name
        place = next(place for place, other in enumerate(graph.node) if other.output[0] == name)
        graph.node.insert(place + 1, make_max(name, result, name))
    if found:
        store_lowest(graph)
    return len(found)


def _end(graph: onnx.GraphProto, ranks: dict[str, int]) -> int:

    producers = {name: node for node in graph.node for name in node.output if name}
    stored = {tensor.name: tensor for tensor in graph.initializer}

    def is_wrong(node: onnx.NodeProto) -> bool:
        if node.op_type == "ReduceMean":
            return _is_over_length(node, ranks.get(node.input[0]), stored)
        if node.op_type == "Pad":
            return _adds_values(node, stored) or (
                ranks.get(node.input[0]) == _SEQUENCE_RANK and _has_zero_point(node.input[0], producers, stored)
            )
        return node.op_type in _PLAIN_SUMS or (_counts_padding(node) and not _can_pad_apart(node))

    found = [node for node in graph.node if is_wrong(node) and _steps_of(node.input[0], producers)]
    for node in found:
        name = f"{node.output[0]}_float"
        place = next(place for place, other in enumerate(graph.node) if other.output[0] == node.output[0])
        graph.node.insert(place, make_max(node.input[0], name, name))
        graph.node[place + 1].input[0] = name
    if found:
        store_lowest(graph)
    return len(found)


def _adds_values(pad: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    """Return whether a Pad may put a number other than 0 around what it reads."""
    from onnx import numpy_helper

    if any(attribute.name == "mode" and attribute.s != b"constant" for attribute in pad.attribute):
        return False
    value = pad.input[2] if len(pad.input) > 2 else ""
    return bool(value) and (value not in stored or bool(numpy_helper.to_array(stored[value]).any()))


def _has_zero_point(name: str, producers: dict[str, onnx.NodeProto], stored: dict[str, onnx.TensorProto]) -> bool:
    """Return whether the integers that a tensor's values are steps of have a zero point other than 0, or may have."""
    from onnx import numpy_helper

    zero = _steps_of(name, producers)[1:]
    return bool(zero) and (zero[0] not in stored or bool(numpy_helper.to_array(stored[zero[0]]).any()))


def _is_over_length(node: onnx.NodeProto, rank: int | None, stored: dict[str, onnx.TensorProto]) -> bool:
    """Return whether a mean is of a sequence, or of what is not known, and over more than its last axis."""
    from onnx import numpy_helper

    if rank is not None and rank != _SEQUENCE_RANK:
        return False
    axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if axes is None and len(node.input) > 1 and node.input[1] in stored:
        axes = numpy_helper.to_array(stored[node.input[1]]).reshape(-1).tolist()
    return axes not in ([-1], [_SEQUENCE_RANK - 1])


def pad_means_apart(proto: onnx.ModelProto) -> int:
    """Pad in front of each mean of dequantized values that counts its padding; return how many there were."""
    return sum(_pad(graph) for graph in all_graphs(proto.graph))


def _pad(graph: onnx.GraphProto) -> int:
    producers = {name: node for node in graph.node for name in node.output if name}
    found = [node for node in graph.node if _counts_padding(node) and _can_pad_apart(node)]
    pairs = [(node, steps) for node in found if (steps := _steps_of(node.input[0], producers))]
    for number, (node, steps) in enumerate(pairs):
        _insert(graph, node, steps, f"{_NAME}_{number}_{node.output[0]}")
    return len(pairs)


def _counts_padding(node: onnx.NodeProto) -> bool:
    values = {attribute.name: attribute for attribute in node.attribute}
    return (
        node.op_type == "AveragePool"
        and "count_include_pad" in values
        and values["count_include_pad"].i == 1
        and "pads" in values
        and any(values["pads"].ints)
    )


def _can_pad_apart(pool: onnx.NodeProto) -> bool:
    """Say whether a mean is of pictures, and no window beyond a padded end is left out of it, as ``ceil_mode`` may."""
    values = {attribute.name: attribute for attribute in pool.attribute}
    return len(values["kernel_shape"].ints) > 1 and not ("ceil_mode" in values and values["ceil_mode"].i)


def _steps_of(name: str, producers: dict[str, onnx.NodeProto]) -> tuple[str, ...]:
    """Return the names of the scale and zero point that a tensor's values are steps of; none for other values.

    Those of a Concat must be the same for all that it joins.
    """
    node = producers.get(name)
    if node is None:
        return ()
    if node.op_type == "DequantizeLinear":
        return tuple(node.input[1:3])
    if node.op_type == "Concat":
        joined = {_steps_of(each, producers) for each in node.input}
        return joined.pop() if len(joined) == 1 else ()
    return _steps_of(node.input[0], producers) if node.op_type in _MOVES else ()


def _insert(graph: onnx.GraphProto, pool: onnx.NodeProto, steps: tuple[str, ...], name: str) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    pads = next(attribute for attribute in pool.attribute if attribute.name == "pads")
    half = len(pads.ints) // 2
    sizes = [0, 0, *pads.ints[:half], 0, 0, *pads.ints[half:]]
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), f"{name}_sizes"))
    made = [
        helper.make_node("Pad", [pool.input[0], f"{name}_sizes"], [name], name=name),
        helper.make_node("QuantizeLinear", [name, *steps], [f"{name}_q"], name=f"{name}_q"),
        helper.make_node("DequantizeLinear", [f"{name}_q", *steps], [f"{name}_d"], name=f"{name}_d"),
    ]
    place = next(place for place, node in enumerate(graph.node) if node.output[0] == pool.output[0])
    for offset, node in enumerate(made):
        graph.node.insert(place + offset, node)
    pool = graph.node[place + len(made)]
    pool.input[0] = f"{name}_d"
    kept = [attribute for attribute in pool.attribute if attribute.name != "pads"]
    del pool.attribute[:]
    pool.attribute.extend(kept)


def fill_ranks(proto: onnx.ModelProto) -> int:
    """Give each constant of integers as many axes as what it is added to; return how many there were."""
    ranks = _ranks(proto)
    return sum(_fill(graph, ranks) for graph in all_graphs(proto.graph))


def _fill(graph: onnx.GraphProto, ranks: dict[str, int]) -> int:
    producers = {name: node for node in graph.node for name in node.output if name}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = [
        (node, place, lacking)
        for node in graph.node
        if node.op_type in _ADDS
        for place in range(2)
        if (lacking := _lacking_axes(node, place, ranks, producers, stored)) > 0
    ]
    for node, place, lacking in found:
        name = f"{node.output[0]}_filled_{place}"
        made = copy.deepcopy(producers[node.input[place]])
        tensor = copy.deepcopy(stored[made.input[0]])
        tensor.name = f"{name}_q"
        tensor.dims[:] = [1] * lacking + list(tensor.dims)
        graph.initializer.append(tensor)
        made.name = made.output[0] = name
        made.input[0] = tensor.name
        for attribute in made.attribute:
            if attribute.name == "axis" and attribute.i >= 0:
                attribute.i += lacking
        graph.node.insert(next(i for i, other in enumerate(graph.node) if other.output[0] == node.output[0]), made)
        node.input[place] = name
    return len(found)


def _lacking_axes(
    node: onnx.NodeProto,
    place: int,
    ranks: dict[str, int],
    producers: dict[str, onnx.NodeProto],
    stored: dict[str, onnx.TensorProto],
) -> int:
    """Return how many axes a dequantized constant has less than what it is added to; 0 for anything else."""
    producer, other = producers.get(node.input[place]), ranks.get(node.input[1 - place], 0)
    if producer is None or producer.op_type != "DequantizeLinear" or not {*producer.input} <= {*stored, ""}:
        return 0
    own = len(stored[producer.input[0]].dims)
    if not own or any(attribute.name == "block_size" and attribute.i for attribute in producer.attribute):
        return 0
    return other - own
