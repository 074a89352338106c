"""The form that quantization works on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.quantize.graph.index import to_array
from edgepack.quantize.graph.normalise import LOWEST_OPSET, drop_unused, normalise


def parsed(body: str, opset: int = 17, **constants: np.ndarray) -> Any:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net (float[1,4] x) => (float[1,4] y) {{ {body} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return proto


def constants(proto: Any) -> dict[str, np.ndarray]:
    return {tensor.name: to_array(tensor) for tensor in proto.graph.initializer}


@pytest.mark.parametrize(
    "body",
    [
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        "q, qs, qz = DynamicQuantizeLinear(x) y = DequantizeLinear(q, qs, qz)",
        "y = QLinearMatMul(x, s, z, w, s, z, s, z)",
    ],
)
def test_what_is_quantized_already_is_refused(body: str) -> None:
    values = {"s": np.float32(0.5), "z": np.uint8(3), "w": np.ones((4, 4), np.uint8)}
    with pytest.raises(ModelError, match="the model is quantized already") as caught:
        normalise(parsed(body, **{name: np.asarray(value) for name, value in values.items()}))
    assert "float model" in str(caught.value.hint)


@given(axis=st.sampled_from([None, 0, 1]), zero=st.integers(-3, 3), seed=st.integers(0, 100))
def test_weights_stored_as_integers_become_the_floats_they_stand_for(axis: int | None, zero: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.integers(-128, 128, (4, 4)).astype(np.int8)
    scale = random.uniform(0.1, 2, () if axis is None else 4).astype(np.float32)
    attributes = "" if axis is None else f"<axis = {axis}>"
    proto = parsed(
        f"w = DequantizeLinear{attributes}(q, s, z) y = MatMul(x, w)",
        q=weights, s=scale, z=np.full(scale.shape, zero, np.int8),
    )  # fmt: skip
    found = constants(normalise(proto))
    along = scale if axis is None else scale.reshape((4, 1) if axis == 0 else (1, 4))
    assert set(found) == {"w"}
    np.testing.assert_allclose(found["w"], (weights.astype(np.float64) - zero) * along, rtol=1e-6)


def test_constant_nodes_and_their_copies_become_initializers() -> None:
    proto = normalise(parsed("c = Constant<value_float = 2.5>() d = Identity(c) y = Mul(x, d)"))
    assert [node.op_type for node in proto.graph.node] == ["Mul"]
    assert constants(proto) == {"d": 2.5}


def test_a_constant_that_leaves_the_graph_stays_a_node() -> None:
    proto = parsed("y = Constant<value = float[1,4] {1, 2, 3, 4}>() unused = Relu(x)")
    assert "Constant" in [node.op_type for node in normalise(proto).graph.node]


def test_every_node_has_a_name_of_its_own() -> None:
    proto = parsed("a = Relu(x) b = Relu(a) c = Relu(b) y = Relu(c)")
    for node, name in zip(proto.graph.node, ["same", "", "same", "same_1"], strict=True):
        node.name = name
    names = [node.name for node in normalise(proto).graph.node]
    assert len(set(names)) == 4
    assert names[0] == "same"
    assert all(names)


def test_an_initializer_among_the_inputs_is_a_weight() -> None:
    proto = parsed("y = Add(x, w)", w=np.ones(4, np.float32))
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    assert [value.name for value in normalise(proto).graph.input] == ["x"]


def test_an_older_opset_is_raised_with_the_same_answer() -> None:
    text = "y = Dropout<ratio = 0.5>(x)"
    assert normalise(parsed(text, opset=10)).opset_import[0].version == LOWEST_OPSET
    assert normalise(parsed("y = Relu(x)", opset=18)).opset_import[0].version == 18


def test_unused_initializers_go_and_those_of_bodies_stay() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (bool c) => (float[1] y)
        <float[1] inside = {1}, float[1] unused = {2}, float[1] outside = {3}> {
            a = If (c) <then_branch = one () => (float[1] p) { p = Identity(inside) },
                        else_branch = two () => (float[1] q) { q = Identity(outside) }>
            y = Relu(a)
        }"""
    )
    drop_unused(proto.graph)
    assert [tensor.name for tensor in proto.graph.initializer] == ["inside", "outside"]
