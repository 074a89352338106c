"""Unrolled recurrent layers compute what ONNX Runtime computes; why others are not unrolled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines.tvm.onnx.recurrent import MOST_STEPS, RECURRENT, unroll_recurrent, why_not


def recurrent(
    kind: str, direction: str, steps: int, batch: int, *, bias: bool, state: bool, seed: int = 0, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return a model of one layer, and its inputs."""
    random = np.random.default_rng(seed)
    inputs, hidden = 3, 4
    directions, gates = 2 if direction == "bidirectional" else 1, RECURRENT[kind]
    weights = {
        "w": random.standard_normal((directions, gates * hidden, inputs)),
        "r": random.standard_normal((directions, gates * hidden, hidden)) / 2,
    }
    names = ["x", "w", "r", "", "", "", ""]
    if bias:
        weights["b"] = random.standard_normal((directions, 2 * gates * hidden))
        names[3] = "b"
    first = attributes.get("layout", 0)
    shape = [batch, steps, inputs] if first else [steps, batch, inputs]
    feeds = {"x": random.standard_normal(shape).astype(np.float32)}
    if state:
        places = ["h", "c"] if kind == "LSTM" else ["h"]
        for index, name in enumerate(places):
            names[5 + index] = name
            size = (batch, directions, hidden) if first else (directions, batch, hidden)
            feeds[name] = random.standard_normal(size).astype(np.float32)
    while not names[-1]:
        names.pop()
    outputs = ["y", "yh", *(["yc"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, names, outputs, "layer", hidden_size=hidden, direction=direction, **attributes)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feeds.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), feeds


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(list(RECURRENT)),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    bias=st.booleans(),
    state=st.booleans(),
    late=st.booleans(),
)
def test_every_form_computes_the_same(
    kind: str, direction: str, steps: int, batch: int, bias: bool, state: bool, late: bool
) -> None:
    attributes = {"linear_before_reset": int(late)} if kind == "GRU" else {}
    proto, feeds = recurrent(kind, direction, steps, batch, bias=bias, state=state, **attributes)
    expected = run(proto, feeds)
    shapes = {name: array.shape for name, array in feeds.items()}
    assert unroll_recurrent(proto, shapes)
    assert not {node.op_type for node in proto.graph.node} & set(RECURRENT)
    for first, second in zip(expected, run(proto, feeds), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-5)


def node_of(**attributes: Any) -> onnx.NodeProto:
    inputs = attributes.pop("inputs", ["x", "w", "r"])
    return helper.make_node(attributes.pop("kind", "LSTM"), inputs, ["y"], hidden_size=4, **attributes)


@pytest.mark.parametrize(
    ("node", "shape", "reason"),
    [
        (node_of(), (5, 1, 3), None),
        (node_of(activations=["Sigmoid", "Tanh", "Tanh"]), (5, 1, 3), None),
        (node_of(kind="RNN", activations=["Tanh", "Tanh"]), (5, 1, 3), None),
        (node_of(), ("T", 1, 3), "a number of steps that is not fixed"),
        (node_of(), (), "a number of steps that is not fixed"),
        (node_of(), (MOST_STEPS + 1, 1, 3), f"at most {MOST_STEPS} are unrolled"),
        (node_of(layout=1), (1, MOST_STEPS + 1, 3), f"at most {MOST_STEPS} are unrolled"),
        (node_of(activations=["Relu", "Tanh", "Tanh"]), (5, 1, 3), "with the activations Relu, Tanh, Tanh"),
        (node_of(inputs=["x", "w", "r", "", "lengths"]), (5, 1, 3), "with sequence lengths"),
        (node_of(inputs=["x", "w", "r", "", "", "", "", "p"]), (5, 1, 3), "with peepholes"),
        (node_of(clip=1.0), (5, 1, 3), "with clip"),
        (node_of(input_forget=1), (5, 1, 3), "with input_forget"),
    ],
)
def test_why_a_layer_is_not_unrolled(node: onnx.NodeProto, shape: Any, reason: str | None) -> None:
    found = why_not(node, {"x": shape})
    assert found is None if reason is None else reason in str(found)


def test_a_model_without_any_is_left_alone() -> None:
    proto, feeds = recurrent("LSTM", "forward", 3, 1, bias=False, state=False)
    before = proto.SerializeToString()
    assert not unroll_recurrent(proto, {"x": ("T", 1, 3)})
    assert proto.SerializeToString() == before
    assert run(proto, feeds)
