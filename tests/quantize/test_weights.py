"""Integers of one layer's weights and bias: how near they are, and what they are never allowed to be."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.errors import ModelError
from edgepack.quantize.placement import Layer
from edgepack.quantize.scales import SMALLEST_SCALE, ActivationScale
from edgepack.quantize.weight_rows import reduction
from edgepack.quantize.weights import (
    IntegerWeights,
    LayerWeights,
    integer_bias,
    integer_weights,
    output_channels,
    read_weights,
    round_rows,
    squared_error,
    usable_scale,
)
from edgepack.specs.target import QuantizationRules

DATA = ActivationScale(0.1, 3, "uint8")
RULES = QuantizationRules()
WEIGHTS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-100, 100, width=32)
)


def gemm(axis: int | None = 0, **changes: Any) -> Layer:
    """A layer with weights [outputs, inputs]."""
    return dataclasses.replace(Layer(0, "n", "Gemm", "x", "w", axis, transposed=True), **changes)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


class Constants:
    """What ``read_weights`` asks of an index."""

    def __init__(self, **values: np.ndarray) -> None:
        self._values = values

    def constant(self, name: str) -> np.ndarray:
        return self._values[name]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_alpha_and_beta_are_multiplied_in() -> None:
    index: Any = Constants(w=np.ones((2, 3), np.float32), b=np.float32([[5.0]]))
    found = read_weights(index, gemm(bias="b", alpha=2.0, beta=3.0))
    np.testing.assert_array_equal(found.weight, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(found.bias, [15.0, 15.0])


def test_a_layer_without_bias_has_none() -> None:
    index: Any = Constants(w=np.ones((2, 3), np.float32))
    assert read_weights(index, gemm()).bias is None


@pytest.mark.parametrize(("name", "bad"), [("w", np.nan), ("w", np.inf), ("b", -np.inf)])
def test_what_is_not_finite_is_counted_and_named(name: str, bad: float) -> None:
    values = {"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}
    values[name].flat[1] = bad
    index: Any = Constants(**values)
    with pytest.raises(ModelError, match=f"1 of {values[name].size} values of '{name}', the weights of 'n'"):
        read_weights(index, gemm(bias="b"))


@pytest.mark.parametrize(
    ("operator", "groups", "transposed", "shape", "channels"),
    [("Conv", 2, False, (6, 2, 3, 3), 6), ("ConvTranspose", 2, False, (4, 3, 3, 3), 6),
     ("Gemm", 1, True, (6, 2), 6), ("Gemm", 1, False, (2, 6), 6), ("MatMul", 1, False, (3, 2, 6), 6)],
)  # fmt: skip
def test_output_channels(operator: str, groups: int, transposed: bool, shape: Any, channels: int) -> None:
    layer = Layer(0, "n", operator, "x", "w", 0, groups=groups, transposed=transposed)
    assert output_channels(layer, np.zeros(shape, np.float32)) == channels


# --- rounding ---------------------------------------------------------------------------------------------------------


@given(WEIGHTS, st.sampled_from(["int8", "uint8"]), st.booleans())
def test_every_weight_is_within_half_a_step(weight: np.ndarray, kind: Any, per_channel: bool) -> None:
    rules = QuantizationRules(weight_type=kind)
    found = integer_weights(LayerWeights(weight, None), gemm(0 if per_channel else None), DATA, rules)
    step = found.scale.reshape(-1, 1) if per_channel else found.scale
    assert (np.abs(found.dequantized() - weight) <= step * 0.5001).all()
    assert found.values.dtype == kind
    assert found.zero_point == (128 if kind == "uint8" else 0)


@given(WEIGHTS)
def test_the_largest_weight_of_each_channel_is_127_steps(weight: np.ndarray) -> None:
    found = integer_weights(LayerWeights(weight, None), gemm(), DATA, RULES)
    largest = np.abs(weight).max(axis=1)
    counts = largest >= 1e-30  # below, the scale is the least that engines can invert
    assert (np.abs(found.values.astype(int)).max(axis=1)[counts] == 127).all()


@given(WEIGHTS)
def test_asymmetric_weights_hold_zero_exactly(weight: np.ndarray) -> None:
    rules = QuantizationRules(weight_symmetric=False, per_channel=False, weight_type="uint8")
    found = integer_weights(LayerWeights(weight, None), gemm(None), DATA, rules)
    assert 0 <= found.zero_point <= 255
    assert found.axis is None
    zeros = dataclasses.replace(found, values=np.full_like(found.values, found.zero_point)).dequantized()
    assert not zeros.any()
    assert (np.abs(found.dequantized() - weight) <= found.scale * 1.0001).all()


def test_the_nearest_scale_loses_less_than_the_largest() -> None:
    weight = normal(2, 40_000)
    weight[:, 0] = 8  # one far from all others
    errors = {}
    for clipping in ("largest", "nearest"):
        found = integer_weights(LayerWeights(weight, None), gemm(), DATA, RULES, clipping)  # type: ignore[arg-type]
        errors[clipping] = np.square(found.dequantized() - weight).sum(axis=1)
    assert (errors["nearest"] <= errors["largest"]).all()
    assert errors["nearest"].sum() < errors["largest"].sum()


def test_importance_moves_the_scale_to_the_terms_that_matter() -> None:
    weight = np.float32([[1.0, 0.3, 0.31, 0.29] * 8])
    important = np.tile(np.float32([0, 1, 1, 1]), 8)
    rows = dataclasses.replace(reduction(weight, gemm()), pairs=())
    plain, weighted = (
        integer_weights(LayerWeights(weight, None, given), gemm(), DATA, RULES, "nearest").scale.astype(np.float64)
        for given in (None, important)
    )
    assert squared_error(rows, weighted, important) < squared_error(rows, plain, important)


@pytest.mark.parametrize("saturates", [False, True])
def test_neighbours_are_limited_where_the_target_saturates_only(saturates: bool) -> None:
    weight = np.ones((1, 8), np.float32)
    found = integer_weights(LayerWeights(weight, None), gemm(), DATA, QuantizationRules(saturates=saturates))
    pairs = found.values.astype(int).reshape(-1, 2).sum(axis=1)
    assert (pairs <= 128).all() == saturates


def test_rounding_clips_at_127() -> None:
    rows = reduction(np.float32([[-300, 0.4, 0.6, 300]]), gemm())
    rows = dataclasses.replace(rows, pairs=())
    np.testing.assert_array_equal(round_rows(rows, np.float64([1.0])), [[-127, 0, 1, 127]])
    np.testing.assert_allclose(squared_error(rows, np.float64([1.0]), None), [2 * 173.0**2 + 0.16 * 2])


# --- scales and biases ------------------------------------------------------------------------------------------------


def test_a_scale_is_never_zero() -> None:
    found = usable_scale(np.float64([0.0, 1e-60, 0.5]), None, gemm(), DATA)
    assert found.dtype == np.float32
    assert found.tolist() == [np.finfo(np.float32).eps, np.float32(SMALLEST_SCALE), 0.5]


@pytest.mark.parametrize("axis", [0, None])
def test_a_bias_that_would_not_fit_widens_the_scale(axis: int | None) -> None:
    bias = np.float32([0.0, 1e9])
    source = LayerWeights(np.full((2, 3), 0.127, np.float32), bias)
    found = integer_weights(source, gemm(axis), DATA, RULES)
    integers, scale = integer_bias(found, gemm(axis), DATA)
    assert np.abs(integers.astype(np.int64)).max() <= 2**30 + 100
    np.testing.assert_allclose(integers * scale.astype(np.float64), bias, rtol=1e-6)
    wide = found.scale > 0.002
    assert wide.tolist() == ([False, True] if axis == 0 else True)


def test_a_bias_is_stored_in_units_of_input_scale_times_weight_scale() -> None:
    weights = IntegerWeights(np.zeros((2, 3), np.int8), np.float32([0.5, 2.0]), 0, 0, np.float32([1.0, -3.2]))
    integers, scale = integer_bias(weights, gemm(), DATA)
    np.testing.assert_allclose(scale, [0.05, 0.2], rtol=1e-6)
    assert (integers.dtype, integers.tolist()) == (np.int32, [20, -16])


def test_the_bias_of_a_transposed_convolution_has_the_scales_of_each_group() -> None:
    layer = Layer(0, "n", "ConvTranspose", "x", "w", 1, groups=2)
    weights = IntegerWeights(np.zeros((2, 2, 1), np.int8), np.float32([1, 2]), 0, 1, np.float32([1, 1, 1, 1]))
    integers, scale = integer_bias(weights, layer, DATA)
    np.testing.assert_allclose(scale, [0.1, 0.2, 0.1, 0.2], rtol=1e-6)
    assert integers.tolist() == [10, 5, 10, 5]
