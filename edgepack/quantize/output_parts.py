"""Finds the parts of a model's outputs that mean different things: boxes and scores, a stride, a keypoint's place.

One ratio over a whole output is blind for its small parts: boxes of hundreds of pixels hide scores below 1. Parts are
told apart by where the graph put them together: what came out of different layers, or through different inputs of a
Concat.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.stage import stage
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.verify.parts import Parts, write_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgepack.quantize.graph.index import Node
    from edgepack.specs.types import Array, Feeds

# Operators that only put values of their first input elsewhere.
_MOVES = frozenset(
    {
        "Cast", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# Operators that keep values at their places; of those with two activations no part can be told.
_STAYS = frozenset(
    {
        "Add", "Clip", "Div", "Exp", "HardSigmoid", "LogSoftmax", "Mul", "Neg", "Pow", "Relu", "Sigmoid", "Softmax",
        "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip
_BOUNDED = frozenset({"HardSigmoid", "Sigmoid", "Softmax", "Tanh"})
# More parts than this in one output are no parts but a list: the output counts as one.
_MOST_PARTS = 64
_FILE = "parts.npz"


@stage("parts")
def find_parts(model: OnnxModel, samples: SampleSet, out: Path) -> Path:
    """Return a file with the parts of every output that has several (``verify/parts.py``), for outputs of the shape
    that the first of ``samples`` gives, and with the outputs that are bounded by construction.
    """
    from edgepack.data.samples import read_samples

    out.mkdir(parents=True, exist_ok=True)
    feeds = next(iter(read_samples(samples, model.inputs)))
    write_parts(out / _FILE, parts_of(model, feeds), bounded_outputs(model))
    return out / _FILE


def parts_of(model: OnnxModel, feeds: Feeds) -> dict[str, Parts]:
    """Return the parts of every output that has several; ``feeds`` are one sample's inputs."""
    from edgepack.graph.load import read_proto

    finder = _Finder(read_proto(model), feeds)
    found = {spec.name: finder.parts(spec.name) for spec in model.outputs}
    return {name: parts for name, parts in found.items() if 1 < len(parts.names) <= _MOST_PARTS}


def bounded_outputs(model: OnnxModel) -> tuple[str, ...]:
    """Return the outputs that stay within [-1, 1] whatever the inputs are: probabilities, and what is moved of them."""
    from edgepack.graph.load import read_proto
    from edgepack.quantize.graph.index import index_graph

    index = index_graph(read_proto(model))

    def bounded(tensor: str) -> bool:
        while (number := index.producer.get(tensor)) is not None:
            node = index.nodes[number]
            if node.op_type == "Concat":
                return all(map(bounded, node.input))
            if node.op_type not in _MOVES:
                return node.op_type in _BOUNDED
            tensor = node.input[0]
        return False

    return tuple(spec.name for spec in model.outputs if bounded(spec.name))


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of which none is there twice: a tensor that was put in at several places is several parts."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)


class _Finder:
    """Follows outputs back to where their values were computed; lives for one model."""

    def __init__(self, proto: Any, feeds: Feeds) -> None:
        from edgepack.quantize.graph.index import index_graph

        self._proto = proto
        self._index = index_graph(proto)
        self._names: list[str] = []  # by label
        self._found: dict[str, Array] = {}
        self._values = self._run(feeds)

    def parts(self, output: str) -> Parts:
        """Return the parts of an output, named after the tensors that they were before they were put together."""
        labels = self.labels(output)
        kinds, places = np.unique(labels, return_inverse=True)
        names = _told_apart([self._names[int(kind)] for kind in kinds])
        return Parts(places.reshape(labels.shape).astype(np.int32), names)

    def labels(self, tensor: str) -> Array:
        """Return a label for each value of ``tensor``, float32 in its shape."""
        if tensor not in self._found:
            self._found[tensor] = self._labels(tensor)
        return self._found[tensor]

    def _labels(self, tensor: str) -> Array:
        node, shape = self._producer(tensor), self._values[tensor].shape
        found = None
        if node is not None and node.op_type == "Concat":
            found = self._joined(node)
        elif node is not None and node.op_type in _MOVES:
            found = self._moved(node, tensor)
        elif node is not None and node.op_type in _STAYS and (read := self._only_read(node)) is not None:
            found = self.labels(read)
        if found is None or found.shape != shape:
            found = np.full(shape, self._new(tensor), np.float32)
        return found

    def _new(self, name: str) -> int:
        self._names.append(name)
        return len(self._names) - 1

    def _producer(self, tensor: str) -> Node | None:
        number = self._index.producer.get(tensor)
        return None if number is None else self._index.nodes[number]

    def _joined(self, node: Node) -> Array:
        """Every input of a Concat has labels of its own."""
        from edgepack.quantize.graph.index import attribute

        parts = []
        for name in node.input:
            labels = self.labels(name)
            kinds, places = np.unique(labels, return_inverse=True)
            known = [self._names[int(kind)] for kind in kinds]
            fresh = np.array([self._new(name if len(known) == 1 else inner) for inner in known], np.float32)
            parts.append(fresh[places.reshape(labels.shape)])
        return np.concatenate(parts, attribute(node, "axis", 0))

    def _only_read(self, node: Node) -> str | None:
        """Return the only float activation that a node reads."""
        read = {name for name in node.input if name in self._values and not self._index.is_constant(name)}
        return read.pop() if len(read) == 1 else None

    def _moved(self, node: Node, tensor: str) -> Array:
        """Return what a node that moves values makes of labels in their place."""
        import onnx
        import onnxruntime

        labels = self.labels(node.input[0])
        if node.op_type == "Cast":
            return labels
        feeds: dict[str, Any] = {name: self._values[name] for name in node.input[1:] if name} | {node.input[0]: labels}
        kind = onnx.helper.np_dtype_to_tensor_dtype
        inputs = [onnx.helper.make_tensor_value_info(n, kind(v.dtype), v.shape) for n, v in feeds.items()]
        outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.output if n]
        model = onnx.ModelProto(ir_version=self._proto.ir_version)
        model.graph.CopyFrom(onnx.helper.make_graph([node], "move", inputs, outputs))
        model.opset_import.extend(self._proto.opset_import)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (found,) = session.run([tensor], feeds)
        return np.asarray(found)

    def _run(self, feeds: Feeds) -> Mapping[str, Array]:
        """Return the values of the tensors on the ways back from the outputs, and of the constants there."""
        from edgepack.quantize.graph.sessions import open_session

        wanted: dict[str, None] = {}
        front = sorted(self._index.outputs)
        while front:
            tensor = front.pop()
            node = self._producer(tensor)
            if tensor in wanted:
                continue
            wanted[tensor] = None
            if node is not None and node.op_type in {"Concat"} | _MOVES | _STAYS:
                front += [name for name in node.input if name]
        taps = [name for name in wanted if not self._index.is_constant(name)]
        constants = {name: self._index.constant(name) for name in wanted if self._index.is_constant(name)}
        return dict(open_session(self._proto, taps)(feeds)) | constants
