"""Small models in code for the tests of edgepack.graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name: str, shape: list[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    **more: object,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def small_conv(opset: int = 17) -> onnx.ModelProto:
    """Conv (4 KiB and more of weights), Relu, GlobalAveragePool, Flatten, Gemm; input image[N,3,8,8] -> logits[N,5]."""
    random = np.random.default_rng(0)
    weights = {
        "conv.weight": random.standard_normal((64, 3, 3, 3)).astype(np.float32) * 0.2,
        "conv.bias": random.standard_normal(64).astype(np.float32) * 0.1,
        "fc.weight": random.standard_normal((5, 64)).astype(np.float32) * 0.2,
        "fc.bias": random.standard_normal(5).astype(np.float32) * 0.1,
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1),
    ]
    return model(nodes, [value("image", ["N", 3, 8, 8])], [value("logits", ["N", 5])], weights, opset)


def relu(opset: int = 17) -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"], name="relu")], [value("x", ["N", 3])], [value("y", ["N", 3])],
                 opset=opset)  # fmt: skip


def write(proto: onnx.ModelProto, folder: Path, name: str = "m.onnx") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def external_model(location: str, offset: int | str = 0, length: int | str | None = 64) -> onnx.ModelProto:
    """y[N,4] = x[N,4] @ w[4,4], whose 64 bytes of weights are external."""
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], [value("x", ["N", 4])], [value("y", ["N", 4])]
    )
    weight = proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4, 4])
    weight.data_location = TensorProto.EXTERNAL
    for key, item in (("location", location), ("offset", offset), ("length", length)):
        if item is not None:
            weight.external_data.add(key=key, value=str(item))
    return proto
