"""Computes integers that the reference engine gets wrong a second time, by numpy, so that no wrong answer is compared.

ONNX Runtime computes sums, means, products and powers of int64 in float64, which holds whole numbers up to 2^53, and
cuts off what leaves int32 or int64 where others wrap. Whether a sample's numbers get that far is known from their size;
where they may, each such node of the main graph is computed by both, from the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.errors import ModelError

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array, Feeds

_EXACT = 2**53  # float64 holds all whole numbers up to here
_LEAST_NUMBER = 2**20  # of what is cast from floats nothing is known: as large as ids are
_INPUTS = {
    "Einsum": 2, "Mod": 2, "Pow": 2, "Range": 3, "ReduceL1": 1, "ReduceMean": 1, "ReduceProd": 1, "ReduceSum": 1,
    "ReduceSumSquare": 1,
}  # fmt: skip
_AXES_AS_ATTRIBUTE = 11  # the last opset of a ReduceSum whose axes are an attribute is 12
_INT32, _INT64 = 6, 7  # TensorProto.DataType of onnx.proto


def compared(model: OnnxModel, samples: Iterator[Feeds]) -> Iterator[Feeds]:
    """Yield the samples, each when its integers were found right. Raises ``ModelError`` for one of which they are not,
    with the node's name and both numbers.
    """
    proof = _Proof(model)
    for feeds in samples:
        proof.check(feeds)
        yield feeds


class _Proof:
    """The nodes of a model that are computed again, by the size of the numbers that it is given."""

    def __init__(self, model: OnnxModel) -> None:
        from edgepack.graph.wire import read_named

        self._model = model
        self._any = bool(read_named(model.path).operators & _INPUTS.keys())
        self._again: dict[int, _Again | None] = {}

    def check(self, feeds: Feeds) -> None:
        if not self._any:
            return
        given = [array for array in feeds.values() if array.dtype.kind in "iu" and array.size]
        most = max((max(abs(int(array.min())), abs(int(array.max()))) for array in given), default=0)
        bound = max(_LEAST_NUMBER, 1 << most.bit_length())
        if bound not in self._again:
            nodes = list(_beyond(self._model, bound))
            self._again[bound] = _Again(self._model, nodes) if nodes else None
        again = self._again[bound]
        if again is not None:
            again.compare(feeds)


def _beyond(model: OnnxModel, most: int) -> Iterator[onnx.NodeProto]:
    """Yield the main graph's nodes whose integers may leave what is exact, if no input's number is above ``most``."""
    from edgepack.graph.integer_ranges import IntegerRanges, wrapped
    from edgepack.graph.load import read_proto

    proto = read_proto(model, weights=False)
    types = _types(proto)
    ranges = IntegerRanges(proto, {}, most)
    ranges.enter_stored(proto.graph)
    for node in proto.graph.node:
        found = ranges.result(node)
        ranges.enter(node, None if found is None else wrapped(found))
        kind = types.get(node.output[0])
        if node.op_type not in _INPUTS or kind not in (_INT32, _INT64):
            continue
        operands = [ranges.of(name) for name in node.input[: _INPUTS[node.op_type]]]
        limit = _EXACT if kind == _INT64 else 2**31 - 1
        small = found is not None and (found.size or found.most <= limit)
        if not small or any(one is None or (one.most > limit and not one.size) for one in operands):
            yield node


def _types(proto: onnx.ModelProto) -> Mapping[str, int]:
    from edgepack.graph.check import check_graph, propagate_shapes
    from edgepack.graph.save import without_weights

    graph = propagate_shapes(check_graph(without_weights(proto))).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


class _Again:
    """Nodes of a model with what each reads and makes: by the reference engine, what is stored as it is."""

    def __init__(self, model: OnnxModel, nodes: list[onnx.NodeProto]) -> None:
        from onnx import helper, numpy_helper

        from edgepack.graph.compare import open_model
        from edgepack.graph.load import read_proto, save_proto

        self._nodes, self._opset = nodes, model.opset
        proto = read_proto(model)
        names = dict.fromkeys(name for node in nodes for name in (*node.input, node.output[0]) if name)
        self._stored = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in names}
        self._given = [spec.name for spec in model.inputs if spec.name in names]
        types = _types(proto)
        made = [name for name in names if name not in self._stored and name not in self._given]
        del proto.graph.output[:]
        proto.graph.output.extend(helper.make_tensor_value_info(name, types[name], None) for name in made)
        with scratch_folder() as scratch:
            self._run = open_model(save_proto(proto, Path(scratch), durable=False), optimize=False)

    def compare(self, feeds: Feeds) -> None:
        """Compute the nodes for a sample by both; raise ``ModelError`` where a number differs."""
        values = {**self._stored, **{name: np.asarray(feeds[name]) for name in self._given}, **self._run(feeds)}
        for node in self._nodes:
            found, right = values[node.output[0]], _computed(node, values, self._opset)
            if right is not None:
                _refuse_other(node, found, right)


def _refuse_other(node: onnx.NodeProto, found: Array, right: Array) -> None:
    from edgepack.graph.walk import describe_node

    if right.shape != found.shape:
        words = f"makes {found.size} numbers where {right.size} are right"
    elif (wrong := np.asarray(found != right)).any():
        words = f"gives {found[wrong].flat[0]} where {right[wrong].flat[0]} is right"
    else:
        return
    raise ModelError(
        f"the reference, ONNX Runtime, computes {node.op_type} of {found.dtype} inexactly for these samples: "
        f"node {describe_node(node)!r} {words}",
        hint="it holds whole numbers up to 2^53, and cuts off what overflows: give smaller numbers, or compute this"
        " outside of the model",
    )


def _computed(node: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> Array | None:
    """Return what ONNX says that a node makes of what it reads, by the package onnx's reference, which is numpy; None
    where that does not compute it or a float is among what it reads.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = list(dict.fromkeys(name for name in node.input if name))
    if any(values[name].dtype.kind not in "iu" for name in names):
        return None
    whole = type(node)()
    whole.CopyFrom(node)
    if node.op_type == "ReduceMean":  # it is a mean of floats there
        whole.op_type, opset = "ReduceSum", opset if len(node.input) > 1 else _AXES_AS_ATTRIBUTE
    kinds = {name: helper.np_dtype_to_tensor_dtype(values[name].dtype) for name in (*names, node.output[0])}
    specs = {name: helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()}
    graph = helper.make_graph([whole], "node", [specs[name] for name in names], [specs[node.output[0]]])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            right = np.asarray(ReferenceEvaluator(proto).run(None, {name: values[name] for name in names})[0])
    except Exception:  # a negative power, a division by zero
        return None
    if node.op_type == "ReduceMean" and right.size:
        count = values[node.input[0]].size // right.size
        right = np.sign(right) * (np.abs(right) // max(count, 1))
    return right
