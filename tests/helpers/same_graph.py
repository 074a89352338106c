"""What a graph computes whatever its tensors and nodes are called and in whatever order its nodes stand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepack.base.files import sha256_json

COMMUTATIVE = ("Add", "Mul", "Max", "Min", "Sum")


class Form:
    """The structure of a graph, and its constants in an order that the structure gives.

    ``nodes`` has for every node its operator, attributes, the types and shapes of its constants and what its inputs are
    made by. Two graphs with equal ``nodes`` and ``outputs`` are the same but for names, the order of nodes and the
    values of ``constants``.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        _turn_weights(proto)
        self.opset = next(o.version for o in proto.opset_import if o.domain == "")
        self.values = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.of: dict[str, str] = {"": "left out"}
        for place, value in enumerate(proto.graph.input):
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            self.of[value.name] = f"input {place} {value.type.tensor_type.elem_type} {shape}"
        for name, array in self.values.items():
            self.of[name] = f"constant {array.dtype} {list(array.shape)}"
        self.nodes: dict[str, int] = {}
        self.operators: dict[str, str] = {}
        self._read: dict[str, list[str]] = {}
        for node in proto.graph.node:
            self._add(node)
        self.outputs = [self.of[value.name] for value in proto.graph.output]

    def _add(self, node: onnx.NodeProto) -> None:
        inputs = [self.of[name] for name in node.input]
        while inputs and inputs[-1] == "left out":
            inputs.pop()
        ordered = sorted(inputs) if node.op_type in COMMUTATIVE else inputs
        made = sha256_json([node.op_type, node.domain, self._attributes(node), ordered])
        self.nodes[made] = self.nodes.get(made, 0) + 1
        self.operators[made] = f"{node.op_type} {self._attributes(node)} of {[i[:40] for i in ordered]}"
        self._read.setdefault(made, []).extend(name for name in node.input if name in self.values)
        for place, name in enumerate(node.output):
            self.of[name] = f"{place} of {made}"

    def _attributes(self, node: onnx.NodeProto) -> dict[str, str]:
        """Return the attributes that have another value than their default, and that no weight tells."""
        schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        known = {name: one.default_value for name, one in schema.attributes.items()}
        defaults = {name: helper.get_attribute_value(one) for name, one in known.items() if one.name}
        values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Conv":
            values.pop("kernel_shape", None)
        unset = {"pads": 0, "strides": 1, "dilations": 1}  # what onnx's text gives them
        return {
            name: repr(value)
            for name, value in sorted(values.items())
            if defaults.get(name) != value and not (name in unset and set(value) == {unset[name]})
        }

    def constants(self) -> list[np.ndarray]:
        """Return the constants in the order of the nodes that read them; a tensor that several read, several times."""
        return [self.values[name] for made in sorted(self._read) for name in self._read[made]]


def _turn_weights(proto: onnx.ModelProto) -> None:
    """Let every Gemm read its weight as it multiplies with it: engines pack it when they load, however it lies."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    producers = {name: node for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        turned = next((a for a in node.attribute if a.name == "transB" and a.i), None)
        if node.op_type != "Gemm" or turned is None:
            continue
        producer = producers.get(node.input[1])
        weight = stored[producer.input[0] if producer is not None else node.input[1]]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), weight.name))
        turned.i = 0
        for axis in producer.attribute if producer is not None else []:
            axis.i = 1 - axis.i if axis.name == "axis" else axis.i


def unlike(first: Form, second: Form) -> list[str]:
    """Return in words what only one of two graphs has."""
    both = {**first.operators, **second.operators}
    counts = {made: first.nodes.get(made, 0) - second.nodes.get(made, 0) for made in both}
    return [f"{'+' if n < 0 else '-'} {both[made]}" for made, n in counts.items() if n]
