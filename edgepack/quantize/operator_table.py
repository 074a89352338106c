"""What each engine's rules make of an operator: read from placements in small graphs, so that it is what they do.

In each graph the operator stands between convolutions, which run in int8 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.calibrate.observers import OBSERVERS
from edgepack.engines import ENGINES
from edgepack.specs.data import Ranges, TensorRange
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from edgepack.quantize.placement import Placement
    from edgepack.specs.types import Array

_OPSET = 20
_SIDE = 8
_CHANNELS = 4


@dataclass(frozen=True)
class Probe:
    """An operator to ask about: a title, its node's type and attributes, and what it reads beside the activations.

    ``activations`` are how many it reads; ``outputs`` how many it makes.
    """

    title: str
    operator: str
    attributes: Mapping[str, Any]
    constants: tuple[Array, ...] = ()
    activations: int = 1
    outputs: int = 1


def _ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def _whole(*values: int) -> Array:
    return np.array(values, np.int64)


_KERNEL = {"kernel_shape": [2, 2]}
_TWICE = np.array([1, 1, 2, 2], np.float32)

PROBES: tuple[Probe, ...] = (
    Probe("convolution", "Conv", {}, (_ones(_CHANNELS, _CHANNELS, 1, 1),)),
    Probe("transposed convolution", "ConvTranspose", {}, (_ones(_CHANNELS, _CHANNELS, 1, 1),)),
    Probe("product with weights", "MatMul", {}, (_ones(_SIDE, _SIDE),)),
    Probe("product of two activations (attention)", "MatMul", {}, activations=2),
    Probe("embedding (Gather of a table)", "Gather", {}, activations=0),
    Probe("residual Add", "Add", {}, activations=2),
    Probe("Mul of two activations", "Mul", {}, activations=2),
    Probe("Concat", "Concat", {"axis": 1}, activations=2),
    Probe("Split", "Split", {"axis": 1, "num_outputs": 2}, outputs=2),
    Probe("Pad with zeros", "Pad", {}, (_whole(0, 0, 1, 1, 0, 0, 1, 1),)),
    Probe("Pad with another value", "Pad", {}, (_whole(0, 0, 1, 1, 0, 0, 1, 1), np.array(0.5, np.float32))),
    Probe("Resize, nearest or linear", "Resize", {"mode": "nearest"}, (np.zeros(0, np.float32), _TWICE)),
    Probe("Resize, cubic", "Resize", {"mode": "cubic"}, (np.zeros(0, np.float32), _TWICE)),
    Probe("Transpose", "Transpose", {"perm": [0, 1, 3, 2]}),
    Probe("Reshape", "Reshape", {}, (_whole(1, _CHANNELS, _SIDE * 2, -1),)),
    Probe("DepthToSpace", "DepthToSpace", {"blocksize": 2}),
    Probe("MaxPool", "MaxPool", _KERNEL),
    Probe("AveragePool", "AveragePool", _KERNEL),
    Probe("GlobalAveragePool", "GlobalAveragePool", {}),
    Probe("ReduceMean", "ReduceMean", {}, (_whole(2),)),
    Probe("Relu", "Relu", {}),
    Probe("Clip (ReLU6)", "Clip", {}, (np.array(0, np.float32), np.array(6, np.float32))),
    Probe("LeakyRelu", "LeakyRelu", {}),
    Probe("Sigmoid", "Sigmoid", {}),
    Probe("HardSwish", "HardSwish", {}),
    Probe("Gelu", "Gelu", {}),
    Probe("Softmax", "Softmax", {"axis": 1}),
    Probe("LayerNormalization", "LayerNormalization", {}, (_ones(_SIDE),)),
    Probe("InstanceNormalization", "InstanceNormalization", {}, (_ones(_CHANNELS), _ones(_CHANNELS))),
)

FLOAT = "float"
FUSED = "in the layer before"
PASSES = "int8 passes through"
PASSES_ONE = "int8 passes through, one scale for all"
SAME = "int8, scale of the input"
OWN = "int8, own scale"
# Operators whose results are never negative: then what stores them clips as well as they do.
_NEVER_NEGATIVE = frozenset({"Relu", "Clip", "Sigmoid", "Softmax"})


def engines() -> tuple[str, ...]:
    """Return the engines of which it is known what they compute in int8."""
    return tuple(name for name in ENGINES.own if ENGINES.get(name).int8 is not None)


def rules_of(engine: str) -> QuantizationRules:
    """Return the rules of an engine's targets that ask for nothing else."""
    own: Mapping[str, Any] = ENGINES.get(engine).defaults.get("quantization", {})
    return QuantizationRules(engine=engine, **own)


def int8_table() -> dict[str, dict[str, str]]:
    """Return by each operator's title and by engine what is quantized there, and with which scale."""
    return {probe.title: {name: what_becomes_of(probe, rules_of(name)) for name in engines()} for probe in PROBES}


def what_becomes_of(probe: Probe, rules: QuantizationRules) -> str:
    """Return what ``rules`` make of an operator, in one of the words above."""
    from edgepack.quantize.graph.index import index_graph
    from edgepack.quantize.placement import place
    from edgepack.quantize.rules import check_rules

    table = check_rules(rules)
    proto = _graph(probe)
    index = index_graph(proto)
    placement = place(index, _ranges(proto), rules, table)
    number = next(n for n, node in enumerate(index.nodes) if node.name == "probe")
    node = index.nodes[number]
    if number in placement.nodes:
        return _with_which_scale(node, placement)
    inside = node.op_type in table.activations or (table.residual and node.op_type == "Add")
    return FUSED if inside and node.input[0] not in placement.scales else FLOAT


def _with_which_scale(node: Any, placement: Placement) -> str:
    reads = {placement.scales[name] for name in node.input if name in placement.scales}
    made = placement.scales.get(node.output[0])
    if made is None:
        return PASSES_ONE if node.op_type == "Concat" and len(reads) == 1 else PASSES
    return SAME if made in reads else OWN


def _graph(probe: Probe) -> Any:
    """Return a graph in which convolutions make what the operator reads, and others read what it makes."""
    from onnx import TensorProto, helper, numpy_helper

    tensors = {"weights": _ones(_CHANNELS, _CHANNELS, 1, 1)}
    reads = [f"read{number}" for number in range(probe.activations)] or ["table"]
    if not probe.activations:
        tensors["table"] = _ones(_SIDE, _CHANNELS, _SIDE, _SIDE)
    nodes = [helper.make_node("Conv", ["x", "weights"], [name], name=name) for name in reads[: probe.activations]]
    for number, values in enumerate(probe.constants):
        tensors[f"constant{number}"] = np.asarray(values)
    constants = [f"constant{n}" if value.size else "" for n, value in enumerate(map(np.asarray, probe.constants))]
    rows = [] if probe.activations else ["rows"]
    makes = [f"made{number}" for number in range(probe.outputs)]
    nodes.append(helper.make_node(probe.operator, [*reads, *rows, *constants], makes, "probe", **probe.attributes))
    nodes += [helper.make_node("Conv", [name, "weights"], [f"y_{name}"], name=f"y_{name}") for name in makes]
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, [1, _CHANNELS, _SIDE, _SIDE])]
    inputs += [value("rows", TensorProto.INT64, [1])] if rows else []
    outputs = [value(f"y_{name}", TensorProto.FLOAT, None) for name in makes]
    initializers = [numpy_helper.from_array(values, name) for name, values in tensors.items() if values.size]
    graph = helper.make_graph(nodes, "probe", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])


def _ranges(proto: Any) -> Ranges:
    """Return another range for each tensor, so that equal scales are shared ones."""
    names = [proto.graph.input[0].name, *(name for node in proto.graph.node for name in node.output)]
    never = {name for node in proto.graph.node if node.op_type in _NEVER_NEGATIVE for name in node.output}
    tensors = {}
    for number, name in enumerate(names):
        high = 2.0 * (number + 1)
        low = 0.0 if name in never else -high
        tensors[name] = TensorRange(low, high, low, high, high)
    return Ranges("0" * 64, "0" * 64, next(iter(OBSERVERS.own)), None, 1, tensors)
