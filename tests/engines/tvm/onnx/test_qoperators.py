"""Quantized operators as pairs around float ones, by ONNX Runtime on both forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines.tvm.onnx.qoperators import EXPANDED, expand_qoperators

RANDOM = np.random.default_rng(0)
CONSTANTS: dict[str, Any] = {
    "xs": np.float32(0.05), "xz": np.uint8(120), "ys": np.float32(0.2), "yz": np.uint8(100),
    "w": RANDOM.integers(-50, 50, (4, 3, 1, 1)).astype(np.int8), "ws": np.float32([0.01, 0.02, 0.03, 0.04]),
    "wz": np.zeros(4, np.int8), "bias": RANDOM.integers(-500, 500, 4).astype(np.int32),
    "m": RANDOM.integers(-50, 50, (5, 6)).astype(np.int8), "ms": np.float32(0.03), "mz": np.int8(0),
    "mb": RANDOM.integers(-500, 500, 6).astype(np.int32),
}  # fmt: skip
CASES: dict[str, tuple[list[str], dict[str, Any], list[int]]] = {
    "QLinearConv": (["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"], {}, [1, 3, 4, 5]),
    "QLinearMatMul": (["x", "xs", "xz", "m", "ms", "mz", "ys", "yz"], {}, [2, 5]),
    "QGemm": (["x", "xs", "xz", "m", "ms", "mz", "mb", "ys", "yz"], {}, [2, 5]),
    "QLinearAdd": (["x", "xs", "xz", "x", "xs", "xz", "ys", "yz"], {}, [2, 5]),
    "QLinearMul": (["x", "xs", "xz", "x", "xs", "xz", "ys", "yz"], {}, [2, 5]),
    "QLinearSigmoid": (["x", "xs", "xz", "ys", "yz"], {}, [2, 5]),
    "QLinearLeakyRelu": (["x", "xs", "xz", "ys", "yz"], {"alpha": 0.1}, [2, 5]),
    "QLinearGlobalAveragePool": (["x", "xs", "xz", "ys", "yz"], {"channels_last": 0}, [1, 3, 4, 5]),
    "QLinearConcat": (["ys", "yz", "x", "xs", "xz", "x", "xs", "xz"], {"axis": 1}, [2, 5]),
}
STANDARD = ("QLinearConv", "QLinearMatMul")


def quantized(kind: str, **changes: Any) -> onnx.ModelProto:
    inputs, attributes, shape = CASES[kind]
    domain = "" if kind in STANDARD else "com.microsoft"
    node = helper.make_node(kind, inputs, ["y"], "layer", domain=domain, **{**attributes, **changes})
    stored = [numpy_helper.from_array(np.asarray(CONSTANTS[n]), n) for n in dict.fromkeys(inputs) if n in CONSTANTS]
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)], stored,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("kind", list(CASES))
def test_pairs_give_the_same_integers_but_for_rounding(kind: str) -> None:
    x = RANDOM.integers(0, 256, CASES[kind][2]).astype(np.uint8)
    proto = quantized(kind)
    expected = run(proto, x).astype(int)
    assert expand_qoperators(proto)
    assert not {node.op_type for node in proto.graph.node} & EXPANDED
    assert "layer" in {node.name for node in proto.graph.node}
    assert np.abs(run(proto, x).astype(int) - expected).max() <= 1


def test_channels_last_is_left_alone() -> None:
    proto = quantized("QLinearGlobalAveragePool", channels_last=1)
    expand_qoperators(proto)
    assert [node.op_type for node in proto.graph.node] == ["QLinearGlobalAveragePool"]


def test_a_model_without_any_is_left_alone() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    proto = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]))
    before = proto.SerializeToString()
    assert not expand_qoperators(proto)
    assert proto.SerializeToString() == before
