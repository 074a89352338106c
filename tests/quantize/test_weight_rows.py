"""Rows of weights, their way back, and the neighbours that engines add in 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.quantize.placement import Layer
from edgepack.quantize.weight_rows import from_rows, is_depthwise, reduction


def layer(operator: str, groups: int = 1, *, transposed: bool = False) -> Layer:
    return Layer(0, "n", operator, "x", "w", 0, groups=groups, transposed=transposed)


@st.composite
def weights(draw: Any) -> tuple[Layer, np.ndarray]:
    operator = draw(st.sampled_from(["Conv", "ConvTranspose", "Gemm", "MatMul"]))
    if operator == "MatMul":
        shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    elif operator == "Gemm":
        shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=2))
    else:
        shape = draw(st.lists(st.integers(1, 5), min_size=3, max_size=4))
    transposed = operator == "Gemm" and draw(st.booleans())
    count = int(np.prod(shape))
    return layer(operator, transposed=transposed), np.arange(count, dtype=np.float32).reshape(shape)


@given(weights())
def test_rows_come_back_as_the_weights_they_were(given_weights: tuple[Layer, np.ndarray]) -> None:
    of, weight = given_weights
    np.testing.assert_array_equal(from_rows(reduction(weight, of).rows, weight.shape, of), weight)


@given(weights())
def test_in_one_order_no_term_has_two_neighbours(given_weights: tuple[Layer, np.ndarray]) -> None:
    of, weight = given_weights
    rows = reduction(weight, of)
    for pairs in rows.pairs:
        assert len(np.unique(pairs)) == pairs.size > 0
        assert pairs.max() < rows.rows.shape[1]


def test_a_row_is_an_output_channel() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(reduction(weight, layer("Conv")).rows[2], weight[2].ravel())
    np.testing.assert_array_equal(reduction(weight, layer("ConvTranspose")).rows[2], weight[:, 2].ravel())
    square = weight[:, :, 0, 0]
    np.testing.assert_array_equal(reduction(square, layer("MatMul")).rows[2], square[:, 2])
    np.testing.assert_array_equal(reduction(square, layer("Gemm", transposed=True)).rows[2], square[2])


@pytest.mark.parametrize(
    ("operator", "groups", "shape", "pairs"),
    [
        # Input channels two by two at each kernel position: term = channel * positions + position.
        ("Conv", 1, (1, 4, 1, 2), [[[0, 2], [4, 6], [1, 3], [5, 7]]]),
        # Three channels: the third has no neighbour in one engine, and the next position's first in the other.
        ("Conv", 1, (1, 3, 1, 2), [[[0, 2], [1, 3]], [[0, 2], [4, 1], [3, 5]]]),
        ("Conv", 1, (1, 1, 1, 1), []),
        ("Conv", 4, (4, 1, 3, 3), []),
        ("MatMul", 1, (5, 2), [[[0, 1], [2, 3]]]),
        ("MatMul", 1, (1, 2), []),
        ("ConvTranspose", 2, (4, 1, 1, 2), [[[0, 2], [1, 3], [4, 6], [5, 7]]]),
    ],
)  # fmt: skip
def test_neighbours_are_those_of_the_engines(operator: str, groups: int, shape: Any, pairs: Any) -> None:
    found = reduction(np.ones(shape, np.float32), layer(operator, groups)).pairs
    assert [order.tolist() for order in found] == pairs


@pytest.mark.parametrize(
    ("operator", "groups", "shape", "depthwise"),
    [("Conv", 4, (4, 1, 3, 3), True), ("Conv", 4, (8, 1, 3, 3), False), ("Conv", 1, (4, 1, 3, 3), False),
     ("ConvTranspose", 4, (4, 1, 3, 3), False)],
)  # fmt: skip
def test_depthwise_is_one_output_of_each_input(operator: str, groups: int, shape: Any, depthwise: bool) -> None:
    assert is_depthwise(np.ones(shape, np.float32), layer(operator, groups)) == depthwise
