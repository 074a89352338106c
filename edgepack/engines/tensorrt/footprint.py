"""Estimates the memory that building and running an engine takes: weights and largest activations. Needs onnx."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.engines.tensorrt.graph_view import GraphView, infer
from edgepack.graph.walk import describe_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from edgepack.engines.tensorrt.recipe import InputShapes

# The builder holds the network's weights, the engine's and the serialized plan at once. An estimate from below: what
# CUDA and TensorRT themselves load (about 0.5 GB on a Jetson) is in _LIBRARIES_BYTES.
_COPIES_OF_WEIGHTS = 3
_LIBRARIES_BYTES = 512 << 20


@dataclass(frozen=True)
class Footprint:
    """Bytes: of the weights, and of the inputs and outputs of the node that has most of them (named by ``node``).

    ``unknown`` counts tensors whose shape could not be inferred; they are not in it.
    """

    weights_bytes: int
    activations_bytes: int
    node: str
    unknown: int

    @property
    def build_bytes(self) -> int:
        """Return what a build needs besides the workspace."""
        return _COPIES_OF_WEIGHTS * self.weights_bytes + self.activations_bytes + _LIBRARIES_BYTES


def measure_footprint(view: GraphView, weights_bytes: int, shapes: tuple[InputShapes, ...]) -> Footprint:
    """Return the footprint of a model whose inputs have their largest shapes."""
    sizes = _tensor_bytes(_with_largest_inputs(view.proto, shapes))
    largest, where = 0, ""
    unknown = set()
    for node in view.proto.graph.node:
        names = {name for name in (*node.input, *node.output) if name and not view.is_constant(name)}
        unknown |= {name for name in names if name not in sizes}
        total = sum(sizes.get(name, 0) for name in names)
        if total > largest:
            largest, where = total, describe_node(node)
    return Footprint(weights_bytes, largest, where, len(unknown))


def _with_largest_inputs(proto: onnx.ModelProto, shapes: tuple[InputShapes, ...]) -> onnx.ModelProto:
    """Return a copy with the inputs at their largest and all other shapes inferred anew."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(proto)
    wanted = {entry.name: entry.maximum for entry in shapes}
    for value in sized.graph.input:
        if value.name in wanted:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, wanted[value.name]))
    del sized.graph.value_info[:]
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    return infer(sized)


def _tensor_bytes(proto: onnx.ModelProto) -> Mapping[str, int]:
    import onnx

    sizes = {}
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        tensor = value.type.tensor_type
        dims = [dim.dim_value for dim in tensor.shape.dim]
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            try:
                itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
            except KeyError:
                continue
            sizes[value.name] = math.prod(dims) * itemsize
    return sizes
