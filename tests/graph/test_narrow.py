"""Casts around chosen nodes: who computes in what, and that no other tensor changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, numpy_helper

from edgepack.graph.narrow import low_slots, lower, lowerable, round_array, tensor_types
from edgepack.graph.passes import infer_shapes

BODY = "a = Mul(x, w) b = Relu(a) n = Shape(b) c = Add(b, w) y = Sub(c, x)"


def parsed(body: str = BODY, **constants: Any) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[1,4] x) => (float[1,4] y) {{ {body} }}'
    )
    for name, array in {"w": np.float32([1.5, 2, 3, 4.0001]), **constants}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for node in proto.graph.node:
        node.name = f"{node.op_type}"
    infer_shapes(proto)
    return proto


def evaluated(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    return np.asarray(ReferenceEvaluator(proto).run(["y"], {"x": x})[0])


X = np.float32([[0.1, 0.2, 0.3, 0.4]])


def test_what_may_be_low_and_why_not() -> None:
    found = lowerable(parsed(BODY), "fp16")
    assert found == {"Mul": "", "Relu": "", "Add": "", "Sub": ""}  # Shape computes no floats


@pytest.mark.parametrize(
    ("body", "node", "reason"),
    [
        ("a, b = Unique(x) y = Identity(x)", "Unique", "ONNX has no bf16 form of Unique"),
        ("y = com.acme.Own(x)", "Own", "not a standard operator"),
    ],
)
def test_a_node_without_a_low_form_says_so(body: str, node: str, reason: str) -> None:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]> net (float[1,4] x) => (float[1,4] y) {{ {body} }}'
    )
    for item in proto.graph.node:
        item.name = item.op_type
    proto = onnx.shape_inference.infer_shapes(proto)
    assert lowerable(proto, "bf16")[node] == reason


def test_control_flow_is_left_alone() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[1,4] x, bool c) => (float[1,4] y) {
            z = Relu(x)
            y = If (c) <then_branch = one () => (float[1,4] p) { p = Identity(z) },
                        else_branch = two () => (float[1,4] q) { q = Neg(z) }>
        }"""
    )
    for item in proto.graph.node:
        item.name = item.op_type
    infer_shapes(proto)
    low = lower(proto, frozenset({"Relu"}), "fp16")
    # What a branch reads by name is there in float32, under its own name.
    producers = {name: node for node in low.graph.node for name in node.output}
    assert producers["z"].op_type == "Cast"
    onnx.checker.check_model(low, full_check=True)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
@pytest.mark.parametrize("nodes", [{"Mul"}, {"Relu"}, {"Mul", "Relu", "Add", "Sub"}, {"Mul", "Add"}, set()])
def test_chosen_nodes_compute_low_and_the_others_do_not(precision: Any, kind: int, nodes: set[str]) -> None:
    low = lower(parsed(), frozenset(nodes), precision)
    inferred = onnx.shape_inference.infer_shapes(low, check_type=True, strict_mode=True)
    types = tensor_types(inferred)
    for node in inferred.graph.node:
        if node.op_type not in ("Cast", "Shape"):
            wanted = kind if node.name in nodes else TensorProto.FLOAT
            assert {types[name] for name in (*node.input, *node.output)} == {wanted}, node.name
    assert (types["x"], types["y"]) == (TensorProto.FLOAT, TensorProto.FLOAT)


def test_neighbours_share_one_cast() -> None:
    low = lower(parsed(), frozenset({"Mul", "Relu", "Add", "Sub"}), "fp16")
    assert [node.op_type for node in low.graph.node].count("Cast") == 2  # of x, and of y
    assert lower(parsed(), frozenset(), "fp16").graph.node == parsed().graph.node


def test_weights_are_stored_in_the_precisions_that_read_them() -> None:
    stored = {t.name: t.data_type for t in lower(parsed(), frozenset({"Mul"}), "fp16").graph.initializer}
    assert stored == {"w": TensorProto.FLOAT, "w.fp16": TensorProto.FLOAT16}
    stored = {t.name: t.data_type for t in lower(parsed(), frozenset({"Mul", "Add"}), "fp16").graph.initializer}
    assert stored == {"w.fp16": TensorProto.FLOAT16}


def test_simulation_computes_in_float32_what_rounding_costs() -> None:
    nodes = frozenset({"Mul", "Relu"})
    simulated = lower(parsed(), nodes, "fp16", simulate=True)
    types = set(tensor_types(onnx.shape_inference.infer_shapes(simulated)).values())
    assert {node.op_type for node in simulated.graph.node} >= {"Cast", "Mul"}
    assert TensorProto.FLOAT in types
    exact = evaluated(parsed(), X)
    found = evaluated(simulated, X)
    assert 0 < np.abs(found - exact).max() < 1e-3
    w16, x16 = np.float16([1.5, 2, 3, 4.0001]).astype(np.float32), X.astype(np.float16).astype(np.float32)
    low = (w16 * x16).astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(found, np.maximum(low, 0) + np.float32([1.5, 2, 3, 4.0001]) - X, rtol=1e-6)


def test_a_name_that_is_taken_is_not_used_twice() -> None:
    proto = parsed("a = Mul(x, w) y = Relu(a)", **{"w.fp16": np.float32([1, 2, 3, 4])})
    low = lower(proto, frozenset({"Mul"}), "fp16")
    assert sorted(t.name for t in low.graph.initializer) == ["w.fp16_"]


def test_scales_of_a_resize_stay_float32() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y)
        { y = Resize<mode="nearest">(x, , s) }"""
    )
    types = {"x": 1, "s": 1, "y": 1}
    assert low_slots(proto.graph.node[0], types, 17, "fp16") == ({0}, {0})


@pytest.mark.parametrize(
    ("precision", "value", "rounded"),
    [("fp16", 70000.0, np.inf), ("bf16", 70000.0, 70144.0), ("fp16", 1.0005, 1.0009765625)],
)
def test_values_are_rounded_to_the_nearest(precision: Any, value: float, rounded: float) -> None:
    assert float(round_array(np.float32([value]), precision)[0]) == rounded
