"""Each pass does one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from graph_models import model, small_conv, value
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph import passes


def parsed(body: str, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net (float[1,4] x) => (float[1,4] y) {{ {body} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    return proto


def names(proto: onnx.ModelProto) -> list[str]:
    return [tensor.name for tensor in proto.graph.initializer]


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("body", "quantized"),
    [
        ("y = Relu(x)", False),
        ("w = DequantizeLinear(q, s) y = Add(x, w)", False),  # only compressed
        ("a = QuantizeLinear(x, s) y = DequantizeLinear(a, s)", True),
    ],
)
def test_a_model_is_quantized_where_its_activations_are(body: str, quantized: bool) -> None:
    assert passes.is_quantized(parsed(body, q=np.ones(4, np.int8), s=np.float32(1))) == quantized


def test_quantized_activations_inside_a_branch_count() -> None:
    bodies = {
        name: helper.make_graph([helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])], name, [], [])
        for name in ("then_branch", "else_branch")
    }
    proto = model([helper.make_node("If", ["c"], [], **bodies)], [value("c", [], TensorProto.BOOL)], [value("y", [1])])
    assert passes.is_quantized(proto)


def test_initializers_are_no_inputs_afterwards() -> None:
    proto = parsed("y = Add(x, w)", w=np.ones(4, np.float32))
    proto.graph.input.append(value("w", [4]))
    passes.freeze_initializers(proto)
    assert [item.name for item in proto.graph.input] == ["x"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_compressed_weights_become_the_floats_that_they_stood_for(dtype: Any) -> None:
    weights = np.arange(16).reshape(4, 4).astype(dtype)
    constants: dict[str, Any] = {"q": weights, "s": np.float32([0.5, 1, 2, 4])}
    zero = "" if dtype is np.int32 else ", z"
    if zero:
        constants["z"] = np.full(4, 3, dtype)
    proto = parsed(f"w = DequantizeLinear<axis=1>(q, s{zero}) y = MatMul(x, w)", **constants)
    before = run(proto, np.ones((1, 4), np.float32))
    assert passes.fold_dequantized_weights(proto) == 1
    assert names(proto) == ["w"]
    assert [node.op_type for node in proto.graph.node] == ["MatMul"]
    np.testing.assert_allclose(run(proto, np.ones((1, 4), np.float32)), before, rtol=1e-6)


def test_many_compressed_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_FOLD_LIMIT_BYTES", 60)
    proto = parsed("w = DequantizeLinear(q, s) y = MatMul(x, w)", q=np.ones((4, 4), np.int8), s=np.float32(1))
    assert passes.fold_dequantized_weights(proto) == 0
    assert len(proto.graph.node) == 2


def test_a_weight_that_leaves_the_graph_stays() -> None:
    proto = parsed("y = DequantizeLinear(q, s)", q=np.ones((1, 4), np.int8), s=np.float32(1))
    assert passes.fold_dequantized_weights(proto) == 0


def test_unused_initializers_go() -> None:
    proto = parsed("y = Add(x, w)", w=np.ones(4, np.float32), unused=np.ones(4, np.float32))
    passes.drop_unused_initializers(proto)
    assert names(proto) == ["w"]


def test_shapes_are_written_down_sorted() -> None:
    proto = small_conv()
    passes.infer_shapes(proto)
    found = {
        item.name: [d.dim_value or d.dim_param for d in item.type.tensor_type.shape.dim]
        for item in proto.graph.value_info
    }
    assert found == {"c": ["N", 64, 8, 8], "f": ["N", 64], "p": ["N", 64, 1, 1], "r": ["N", 64, 8, 8]}
    assert list(found) == sorted(found)


def test_a_higher_opset_computes_the_same_and_keeps_large_weights() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 2048)).astype(np.float32)
    body = "a = MatMul(x, w) b = ReduceMean<axes=[1], keepdims=1>(a) y = Add(x, b)"
    proto = parsed(body, opset=11, w=weights)
    raised = passes.raise_opset(proto, 18)
    assert raised.opset_import[0].version == 18
    assert "w" not in [item.name for item in raised.graph.input]
    x = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(run(raised, x), run(proto, x), rtol=1e-5)


@pytest.mark.parametrize(
    ("attribute", "array"),
    [("value = float[2] {1, 2}", np.float32([1, 2])), ("value_float = 2.5", np.float32(2.5)),
     ("value_ints = [1, 2]", np.array([1, 2])), ("value_int = 7", np.array(7)),
     ("value_floats = [1.5]", np.float32([1.5]))],
)  # fmt: skip
def test_constants_are_stored(attribute: str, array: np.ndarray) -> None:
    proto = parsed(f"k = Constant<{attribute}>() y = Relu(x)")
    passes.constants_to_initializers(proto)
    (stored,) = proto.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(stored), array)
    assert numpy_helper.to_array(stored).dtype == array.dtype
    assert stored.name == "k"


def test_constants_of_words_stay_nodes() -> None:
    proto = parsed('k = Constant<value_string = "a">() y = Relu(x)')
    passes.constants_to_initializers(proto)
    assert [node.op_type for node in proto.graph.node] == ["Constant", "Relu"]


def test_notes_go_everywhere() -> None:
    proto = small_conv()
    proto.doc_string = proto.graph.doc_string = proto.graph.node[0].doc_string = "/home/me"
    proto.graph.initializer[0].doc_string = proto.graph.input[0].doc_string = "/home/me"
    proto.graph.node[1].metadata_props.add(key="trace", value="/home/me")
    passes.drop_notes(proto)
    assert b"/home/me" not in proto.SerializeToString()


@given(st.lists(st.sampled_from(["", "a", "b", "Relu_1", "Relu_1_"]), min_size=1, max_size=7))
def test_every_node_gets_a_name_of_its_own_and_keeps_one_that_is(given_names: list[str]) -> None:
    nodes = [helper.make_node("Relu", ["x"], [f"y{n}"], name=name) for n, name in enumerate(given_names)]
    proto = model(nodes, [value("x", [1])], [value("y0", [1])])
    passes.name_nodes(proto)
    found = [node.name for node in proto.graph.node]
    assert len(set(found)) == len(found)
    assert all(found)
    for before, after in zip(given_names, found, strict=True):
        if before and given_names.count(before) == 1:
            assert after == before


def test_only_operator_sets_in_use_are_imported() -> None:
    proto = small_conv()
    proto.opset_import.add(domain="com.microsoft", version=1)
    proto.ir_version = 9
    passes.set_versions(proto)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    assert proto.ir_version == 8


def test_metadata_are_replaced() -> None:
    proto = onnx.ModelProto()
    passes.set_metadata(proto, "a", "1")
    passes.set_metadata(proto, "b", "2")
    passes.set_metadata(proto, "a", "3")
    assert {(item.key, item.value) for item in proto.metadata_props} == {("a", "3"), ("b", "2")}
    assert len(proto.metadata_props) == 2


def test_a_pass_leaves_a_valid_model(tmp_path: Path) -> None:
    proto = small_conv()
    for one in (passes.freeze_initializers, passes.constants_to_initializers, passes.name_nodes, passes.set_versions,
                passes.drop_notes, passes.drop_unused_initializers, passes.infer_shapes):  # fmt: skip
        one(proto)
    onnx.checker.check_model(proto, full_check=True)
