"""Models in float16, and how far float16 may be from float32."""

from __future__ import annotations

import numpy as np
import onnx
from codegen_models import model
from onnx import TensorProto, helper, numpy_helper

# The distance of neighbouring float16 numbers, relative to the larger.
STEP = 2.0**-10


def halves(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float model with everything in float16 between a Cast of each input and one of each output."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = proto.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in graph.node:
        for names, ends in ((node.input, graph.input), (node.output, graph.output)):
            for i, name in enumerate(names):
                if name in {value.name for value in ends}:
                    names[i] = f"{name}.half"
    casts = [helper.make_node("Cast", [v.name], [f"{v.name}.half"], to=TensorProto.FLOAT16) for v in graph.input]
    back = [helper.make_node("Cast", [f"{v.name}.half"], [v.name], to=TensorProto.FLOAT) for v in graph.output]
    nodes = [*casts, *graph.node, *back]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolutions() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Conv", ["c2", "w3"], ["c3"]),
        helper.make_node("Sigmoid", ["c3"], ["s"]),
        helper.make_node("Mul", ["c3", "s"], ["m"]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    weights = {
        "w1": normal(16, 3, 3, 3), "b1": normal(16), "w2": normal(16, 1, 3, 3), "w3": normal(24, 16, 1, 1) / 4,
        "w4": normal(12, 24), "b4": normal(12),
    }  # fmt: skip
    return model(nodes, {"x": [1, 3, 16, 16]}, weights, ("y",))


def attention() -> onnx.ModelProto:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["n"]),
        helper.make_node("MatMul", ["n", "wq"], ["q"]),
        helper.make_node("MatMul", ["n", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "n"], ["y"]),
    ]
    weights = {"gain": normal(32), "shift": normal(32), "wq": normal(32, 32) / 8, "wk": normal(32, 32) / 8}
    return model(nodes, {"x": [2, 16, 32]}, weights, ("y",))


MODELS = {"convolutions": convolutions, "attention": attention}
