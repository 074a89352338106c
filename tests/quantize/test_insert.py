"""Where Q/DQ stand in the graph, and under which names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper
from quantize_models import initializers, minmax_ranges, random_feeds, run_onnxruntime, save, sqnr_db

from edgepack.engines.common.requested import LEFT_KEY
from edgepack.graph.load import save_proto
from edgepack.quantize.insert import Names, insert, set_metadata
from edgepack.quantize.plan import Plan, make_plan, nearest_integers
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """Two convolutions of the same weights, the first of which is an output too, and a product by a bias' side."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["seen"], name="first"),
        helper.make_node("Conv", ["seen", "w"], ["y"], name="second"),
        helper.make_node("Exp", ["x"], ["e"], name="float"),
    ]
    constants = {"w": normal(3, 3, 1, 1), "b": normal(3, seed=2)}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 4, 4]}, outputs=("y", "seen", "e"))


def quantized(model: OnnxModel, tmp_path: Path, **rules: Any) -> tuple[OnnxModel, Plan]:
    plan = make_plan(model, minmax_ranges(model, random_feeds(model, 4)), QuantizationRules(**rules))
    insert(plan.proto, plan.index, plan.placement, nearest_integers(plan), plan.rules)
    return save_proto(plan.proto, tmp_path / "out"), plan


def nodes_of(model: OnnxModel) -> dict[str, Any]:
    return {node.output[0]: node for node in onnx.load(model.path).graph.node}


def test_a_quantized_input_is_read_by_int8_nodes_and_the_float_one_by_others(model: OnnxModel, tmp_path: Path) -> None:
    found = nodes_of(quantized(model, tmp_path)[0])
    assert found["x_quantized"].input[0] == "x"
    assert found["seen_float" if "seen_float" in found else "seen"].input[0] == "x_dequantized"
    assert found["e"].input[0] == "x"


def test_an_output_keeps_its_name_behind_its_pair(model: OnnxModel, tmp_path: Path) -> None:
    found = nodes_of(quantized(model, tmp_path)[0])
    assert found["seen"].op_type == "DequantizeLinear"
    assert found["seen_quantized"].input[0] == "seen_float"
    assert found["seen_float"].op_type == "Conv"


def test_weights_that_two_layers_share_are_stored_once(model: OnnxModel, tmp_path: Path) -> None:
    stored = initializers(quantized(model, tmp_path)[0])
    assert [name for name in stored if name.startswith("w_")] == ["w_quantized", "w_scale", "w_zero_point"]
    assert "w" not in stored
    assert stored["w_quantized"].dtype == np.int8


@pytest.mark.parametrize("quantize_bias", [False, True])
def test_a_bias_is_an_integer_where_the_rules_say_so(model: OnnxModel, tmp_path: Path, quantize_bias: bool) -> None:
    result, plan = quantized(model, tmp_path, quantize_bias=quantize_bias)
    stored = initializers(result)
    assert ("b_quantized" in stored) == quantize_bias
    assert ("b_float" in stored) == (not quantize_bias)
    if quantize_bias:
        scale = stored["x_scale"] * stored["w_scale"]
        np.testing.assert_allclose(stored["b_scale"], scale, rtol=1e-6)
        assert stored["b_quantized"].dtype == np.int32
    assert len(plan.placement.layers) == 2


def test_the_float_nodes_are_named_with_the_reason(model: OnnxModel, tmp_path: Path) -> None:
    result, _ = quantized(model, tmp_path, leave=("second",))
    metadata = {item.key: item.value for item in onnx.load(result.path).metadata_props}
    assert json.loads(metadata[LEFT_KEY]) == {"second": "left in float by the rules"}


def test_it_computes_nearly_the_same(model: OnnxModel, tmp_path: Path) -> None:
    feeds = random_feeds(model, 4)
    result, _ = quantized(model, tmp_path)
    assert sqnr_db(run_onnxruntime(model, feeds, optimized=False), run_onnxruntime(result, feeds, optimized=False)) > 30


def test_alpha_and_beta_are_in_the_integers(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", alpha=0.5, beta=4.0)]
    model = save(nodes, {"w": normal(6, 5), "b": normal(5, seed=2)}, tmp_path / "m.onnx", inputs={"x": ["N", 6]})
    result, _ = quantized(model, tmp_path)
    assert not nodes_of(result)["y" if "y" in nodes_of(result) else "y_float"].attribute
    feeds = random_feeds(model, 4)
    assert sqnr_db(run_onnxruntime(model, feeds, optimized=False), run_onnxruntime(result, feeds, optimized=False)) > 30


def test_a_new_name_is_not_one_of_a_body_either() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (bool c) => (float[1] y) {
            y = If (c) <then_branch = one () => (float[1] p) { p = Constant<value = float[1] {1}>() },
                        else_branch = two () => (float[1] q) { q = Constant<value = float[1] {2}>() }>
        }"""
    )
    names = Names(proto.graph)
    assert names.new("p") == "p_1"
    assert names.new("p") == "p_2"
    assert names.new("z") == "z"
    assert names.new("z") == "z_1"


def test_metadata_are_replaced_not_repeated() -> None:
    proto = onnx.ModelProto()
    set_metadata(proto, "a", "1")
    set_metadata(proto, "b", "2")
    set_metadata(proto, "a", "3")
    assert [(item.key, item.value) for item in proto.metadata_props] == [("a", "3"), ("b", "2")]
