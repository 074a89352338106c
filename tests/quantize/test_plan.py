"""A model with its placement."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from quantize_models import minmax_ranges, random_feeds, save

from edgepack.errors import ConfigError, ModelError
from edgepack.quantize.plan import make_plan, nearest_integers
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

RULES = QuantizationRules()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def model(tmp_path: Path) -> OnnxModel:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("AveragePool", ["c"], ["p"], name="pool", kernel_shape=[4, 4]),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w"], ["m"], name="fc"),
        helper.make_node("Add", ["m", "b"], ["y"], name="bias"),
    ]
    constants = {"k": normal(6, 3, 1, 1), "w": normal(6, 5), "b": normal(5)}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 4, 4]})


def ranges(of: OnnxModel) -> Any:
    return minmax_ranges(of, random_feeds(of, 3))


def test_a_product_with_its_bias_and_an_average_have_the_form_of_the_engines(tmp_path: Path) -> None:
    given = model(tmp_path)
    plan = make_plan(given, ranges(given), RULES)
    assert [node.op_type for node in plan.index.nodes] == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert [layer.name for layer in plan.placement.layers] == ["conv", "fc"]
    assert [layer.bias for layer in plan.placement.layers] == [None, "b"]


def test_the_index_is_that_of_the_graph_that_is_changed(tmp_path: Path) -> None:
    given = model(tmp_path)
    plan = make_plan(given, ranges(given), RULES)
    assert plan.index.graph is plan.proto.graph
    assert [plan.index.nodes[layer.node].name for layer in plan.placement.layers] == ["conv", "fc"]


def test_every_layer_has_integers_of_its_own(tmp_path: Path) -> None:
    given = model(tmp_path)
    found = nearest_integers(make_plan(given, ranges(given), RULES))
    assert {name: weights.values.shape for name, weights in found.items()} == {"conv": (6, 3, 1, 1), "fc": (6, 5)}
    assert found["fc"].bias is not None


def test_ranges_of_another_model_are_refused(tmp_path: Path) -> None:
    given = model(tmp_path)
    other = dataclasses.replace(ranges(given), model_sha256="0" * 64)
    with pytest.raises(ConfigError, match="measured on a different model") as caught:
        make_plan(given, other, RULES)
    assert "edgepack calibrate" in str(caught.value.hint)


def test_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    given = model(tmp_path)
    with pytest.raises(ModelError, match="nothing in this model can run in int8: conv: left in float by the rules"):
        make_plan(given, ranges(given), QuantizationRules(leave=("*",)))
