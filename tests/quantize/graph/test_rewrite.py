"""Rewrites for an engine's sake compute what was there before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from quantize_models import random_feeds, run_onnxruntime, save

from edgepack.graph.load import load_model
from edgepack.quantize.graph.rewrite import join_biases, replace_averages, shapes_of


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def product(tmp_path: Path, bias: np.ndarray, x: list[int | str], *, turned: bool = False) -> Any:
    added = ["b", "p"] if turned else ["p", "b"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", added, ["y"])]
    return save(nodes, {"w": normal(6, 5), "b": bias}, tmp_path / "m.onnx", inputs={"x": x})


def rewritten(model: Any, change: Any) -> tuple[list[str], list[Any], list[Any]]:
    """Return the operators afterwards, and the outputs before and afterwards."""
    proto = onnx.load(model.path)
    change(proto)
    path = model.path.with_name("changed.onnx")
    onnx.save(proto, path)
    feeds = random_feeds(model, 2)
    before, after = (run_onnxruntime(m, feeds, optimized=False) for m in (model, load_model(path)))
    return [node.op_type for node in proto.graph.node], before, after


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_a_product_and_its_bias_become_one_gemm(tmp_path: Path, shape: tuple[int, ...], turned: bool) -> None:
    model = product(tmp_path, normal(*shape), ["N", 6], turned=turned)
    operators, before, after = rewritten(model, join_biases)
    assert operators == ["Gemm"]
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("bias", "x"), [((1,), ["N", 6]), ((5,), [2, 3, 6]), ((2, 5), [2, 6])])
def test_what_is_no_bias_of_columns_or_no_matrix_stays(tmp_path: Path, bias: tuple[int, ...], x: list[Any]) -> None:
    operators, before, after = rewritten(product(tmp_path, normal(*bias), x), join_biases)
    assert operators == ["MatMul", "Add"]
    np.testing.assert_array_equal(before, after)


def pool(tmp_path: Path, size: int = 6, **attributes: Any) -> Any:
    nodes = [helper.make_node("AveragePool", ["x"], ["y"], **attributes)]
    return save(nodes, {}, tmp_path / "m.onnx", inputs={"x": [1, 3, size, size]})


@pytest.mark.parametrize(
    ("attributes", "operator"),
    [
        ({"kernel_shape": [6, 6]}, "GlobalAveragePool"),
        ({"kernel_shape": [3, 3]}, "Conv"),
        ({"kernel_shape": [2, 3], "strides": [2, 1]}, "Conv"),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, "Conv"),
        ({"kernel_shape": [3, 3], "auto_pad": "VALID"}, "Conv"),
        # The number of values differs from place to place: no convolution has such weights.
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "AveragePool"),
        ({"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, "AveragePool"),
        ({"kernel_shape": [4, 4], "strides": [4, 4], "ceil_mode": 1}, "AveragePool"),
        ({"kernel_shape": [6, 6], "pads": [1, 1, 1, 1]}, "AveragePool"),
    ],
)
def test_an_average_has_the_form_that_engines_run_fast(tmp_path: Path, attributes: Any, operator: str) -> None:
    changed: list[bool] = []
    model = pool(tmp_path, **attributes)
    operators, before, after = rewritten(model, lambda proto: changed.append(replace_averages(proto, frozenset({0}))))
    assert operators == [operator]
    assert changed == [operator != "AveragePool"]
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)


def test_an_average_that_was_not_asked_for_stays(tmp_path: Path) -> None:
    proto = onnx.load(pool(tmp_path, kernel_shape=[6, 6]).path)
    assert not replace_averages(proto, frozenset())
    assert proto.graph.node[0].op_type == "AveragePool"


def test_a_free_dimension_is_zero(tmp_path: Path) -> None:
    proto = onnx.load(product(tmp_path, normal(5), ["N", 6]).path)
    assert shapes_of(proto)["x"] == [0, 6]
    assert shapes_of(proto)["y"] == [0, 5]
