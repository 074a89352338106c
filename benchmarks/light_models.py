"""The onnx package's light models with weights: as published, most weights are one value repeated, by ConstantOfShape.

Every weight becomes random, also those that are published: they fit their own network alone. A Softmax in the end is
left out: between random logits it would decide for one class and hide all differences.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_SCALE, _VARIANCE = 1, 4  # inputs of BatchNormalization


def expand(path: Path, out: Path, seed: int = 0) -> Path:
    """Write the model with random weights that keep the size of activations (He et al., arXiv 1502.01852)."""
    model = onnx.load(str(path))
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    roles = _roles(graph)
    _drop_softmax(graph)
    random, kept, made = np.random.default_rng(seed), [], set()
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = [int(size) for size in shapes[node.input[0]]]
        made.add(node.input[0])
        values = _values(shape, roles.get(node.output[0], ("", 0)), random)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    for item in [item for item in graph.initializer if item.name in made]:
        graph.initializer.remove(item)
    for item in graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT and item.name in shapes:
            values = _values(list(item.dims), roles.get(item.name, ("", 0)), random)
            item.CopyFrom(numpy_helper.from_array(values, item.name))
    weights = {tensor.name for tensor in graph.initializer} | made
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
    model.ir_version = max(model.ir_version, 4)  # before it, weights had to be inputs too
    onnx.save(model, str(out))
    return out


def _drop_softmax(graph: onnx.GraphProto) -> None:
    (output,) = graph.output
    last = next(node for node in graph.node if output.name in node.output)
    if last.op_type == "Softmax":
        graph.node.remove(last)
        output.name = last.input[0]
        output.type.tensor_type.ClearField("shape")


def _roles(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """Return the operator that reads each tensor first, through Unsqueeze too, and as which input."""
    found: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.node):
        for index, name in enumerate(node.input):
            through = found.get(node.output[0]) if node.op_type == "Unsqueeze" else None
            found[name] = through or (node.op_type, index)
    return found


def _values(shape: list[int], role: tuple[str, int], random: np.random.Generator) -> np.ndarray:
    normal = random.standard_normal(shape, np.float32)
    if len(shape) > 1:
        return normal * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    if role in (("BatchNormalization", _VARIANCE), ("BatchNormalization", _SCALE)) or role[0] == "Mul":
        return np.float32(1) + np.float32(0.1) * np.abs(normal)
    return np.float32(0.05) * normal
