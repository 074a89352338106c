"""Second moments of what a layer multiplies its weights with, against patches cut out in plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from quantize_models import run_onnxruntime, save

from edgepack.quantize.correct import moments as module
from edgepack.quantize.correct.moments import Moments, can_measure, convolution_rows, measure_moments
from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.normalise import normalise
from edgepack.quantize.placement import Layer, find_layer


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def measured(tmp_path: Path, node: Any, weight: np.ndarray, xs: list[np.ndarray]) -> dict[str, Moments]:
    model = save([node], {"w": weight}, tmp_path / "m.onnx", inputs={"x": ["N", *xs[0].shape[1:]]})
    proto = normalise(onnx.load(model.path))
    index = index_graph(proto)
    layer = find_layer(index, 0, per_channel=True)
    assert isinstance(layer, Layer)
    return {
        layer.name: found
        for turn in measure_moments(proto, index, (layer,), lambda: iter([{"x": x} for x in xs]), len(xs))
        for layer, found in turn
    }


def test_a_products_moments_are_the_mean_outer_product_of_its_rows(tmp_path: Path) -> None:
    xs = [normal(3, 5, seed=n) for n in range(4)]
    found = measured(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"), normal(5, 2), xs)["fc"]
    rows = np.concatenate(xs).astype(np.float64)
    np.testing.assert_allclose(found.matrix[0], rows.T @ rows / len(rows), rtol=1e-5)
    assert not found.blocks
    np.testing.assert_allclose(found.importance(5), np.square(rows).mean(axis=0), rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    groups=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from([[0, 0, 0, 0], [1, 0, 2, 1], "SAME_UPPER", "SAME_LOWER", "VALID"]),
)
def test_patches_times_weights_are_the_convolution(
    groups: int, kernel: Any, strides: Any, dilations: Any, padding: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All patches, so that their order is that of the output's positions."""
    pads = {"auto_pad": padding} if isinstance(padding, str) else {"pads": padding}
    if isinstance(padding, str) and padding.startswith("SAME"):
        dilations = (1, 1)  # ONNX Runtime does not take both
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], name="c", group=groups, strides=strides, dilations=dilations, **pads
    )
    x, w = normal(2, 4, 7, 6), normal(6, 4 // groups, *kernel, seed=2)
    rows = convolution_rows(x, node, list(kernel), groups, 10_000, np.random.default_rng(0))
    weights = w.reshape(groups, 6 // groups, -1)
    folder = tmp_path_factory.mktemp("conv")
    model = save([node], {"w": w}, folder / "m.onnx", inputs={"x": ["N", 4, 7, 6]})
    expected = run_onnxruntime(model, [{"x": x}], optimized=False)[0][0]
    products = np.einsum("gpt,got->gop", rows, weights).reshape(6, len(x), *expected.shape[2:])
    np.testing.assert_allclose(products.transpose(1, 0, 2, 3), expected, rtol=1e-4, atol=1e-5)


def test_few_of_many_patches_are_chosen_in_order_and_each_once() -> None:
    x = np.arange(100, dtype=np.float32).reshape(1, 1, 10, 10)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    rows = convolution_rows(x, node, [1, 1], 1, 12, np.random.default_rng(0))[0, :, 0]
    assert len(rows) == 12
    assert (np.diff(rows) > 0).all()


def test_groups_have_matrices_of_their_own(tmp_path: Path) -> None:
    x = normal(1, 4, 30, 30)
    x[:, 2:] *= 10
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=2)
    found = measured(tmp_path, node, normal(4, 2, 1, 1), [x])["c"]
    assert found.matrix.shape == (2, 2, 2)
    assert np.trace(found.matrix[1]) > 50 * np.trace(found.matrix[0])


def test_a_long_reduction_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_BLOCK", 4)
    xs = [normal(20, 6)]
    found = measured(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"), normal(6, 2), xs)["fc"]
    assert found.blocks
    assert found.matrix.shape == (2, 4, 4)
    rows = xs[0].astype(np.float64)
    np.testing.assert_allclose(found.matrix[0], rows[:, :4].T @ rows[:, :4] / 20, rtol=1e-5)
    assert not found.matrix[1, 2:].any()  # filled up with zeros
    np.testing.assert_allclose(found.importance(6), np.square(rows).mean(axis=0), rtol=1e-5)


def test_layers_that_do_not_fit_together_are_measured_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], name="two"),
    ]
    model = save(nodes, {"w1": normal(4, 4), "w2": normal(4, 4)}, tmp_path / "m.onnx", inputs={"x": ["N", 4]})
    proto = normalise(onnx.load(model.path))
    index = index_graph(proto)
    layers: Any = tuple(find_layer(index, number, per_channel=True) for number in (0, 1))

    def within(budget: int) -> tuple[int, dict[str, Any]]:
        """Return how often the samples were read, and the moments."""
        monkeypatch.setattr(module, "_BUDGET_BYTES", budget)
        reads: list[int] = []

        def feeds() -> Any:
            reads.append(1)
            return iter([{"x": normal(8, 4)}])

        found = {layer.name: m.matrix for turn in measure_moments(proto, index, layers, feeds, 1) for layer, m in turn}
        return len(reads), found

    (together, first), (apart, second) = within(1 << 20), within(1)
    assert (together, apart) == (1, 2)
    for name in ("one", "two"):
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize(
    ("operator", "shape", "known"),
    [("Conv", (2, 2, 1, 1), True), ("Gemm", (2, 2), True), ("MatMul", (2, 2), True), ("MatMul", (3, 2, 2), False),
     ("ConvTranspose", (2, 2, 1, 1), False)],
)  # fmt: skip
def test_stacks_and_transposed_convolutions_are_left_out(
    tmp_path: Path, operator: str, shape: tuple[int, ...], known: bool
) -> None:
    size = [1, 2, 4, 2] if len(shape) == 4 else [3, 2]
    if len(shape) == 3:
        size = [3, 2, 2]
    nodes = [helper.make_node(operator, ["x", "w"], ["y"], name="n")]
    proto = onnx.load(save(nodes, {"w": normal(*shape)}, tmp_path / "m.onnx", inputs={"x": size}).path)
    index = index_graph(proto)
    layer = find_layer(index, 0, per_channel=True)
    assert isinstance(layer, Layer)
    assert can_measure(index, layer) == known
    found = list(measure_moments(proto, index, (layer,), lambda: iter([{"x": normal(*size)}]), 1))
    assert len(found) == int(known)
