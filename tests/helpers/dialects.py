"""Graphs in the dialects that exporters write, and what they compute before and after cleaning."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.clean import clean


class Builder:
    """A graph that grows by one node after the other from one picture, NCHW or NHWC."""

    def __init__(self, seed: int, shape: tuple[int | str, ...] = ("N", 6, 8, 4)) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = "x"

    def constant(self, values: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape).astype(np.float32))

    def positive(self, *shape: int) -> str:
        return self.constant(self.random.uniform(0.5, 2.0, shape).astype(np.float32))

    def add(
        self, operator: str, *others: str, first: str | None = None, swap: bool = False, **attributes: object
    ) -> str:
        inputs = [first or self.last, *others]
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                operator, inputs[::-1] if swap else inputs, [self.last], name=f"n{len(self.nodes)}", **attributes
            )
        )
        return self.last

    def conv(
        self, channels_in: int, channels_out: int, size: int = 3, *, bias: bool = True, **attributes: object
    ) -> str:
        weight = self.normal(channels_out, channels_in, size, size)
        return self.add("Conv", weight, *([self.normal(channels_out)] if bias else []), **attributes)

    def model(self) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def compute(proto: onnx.ModelProto, shape: tuple[int, ...]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.random.default_rng(7).normal(size=shape).astype(np.float32)}
    return session.run(None, feeds)[0]


def cleaned(built: Builder, sizes: tuple[int, ...] = (2, 6, 8, 4)) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Clean a graph, after which it must be valid and compute the same."""
    proto = built.model()
    expected = compute(proto, sizes)
    counts = clean(proto)
    onnx.checker.check_model(proto, full_check=True)
    found = compute(proto, sizes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * max(1.0, float(np.abs(expected).max())))
    return proto, counts


def count(proto: onnx.ModelProto, *operators: str) -> int:
    return sum(node.op_type in operators for node in proto.graph.node)
