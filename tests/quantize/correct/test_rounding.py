"""Rounding by second moments keeps the limits and disturbs the output less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saturation import worst_pair

from edgepack.quantize.correct.rounding import FACTORS, SAFE_FACTORS, _inverse_factor, round_rows_second_order
from edgepack.quantize.weight_rows import Reduction
from edgepack.quantize.weights import round_rows

if TYPE_CHECKING:
    from edgepack.specs.types import Array


def output_error(integers: Array, scale: Array, rows: Array, moments: Array) -> float:
    change = integers * scale[:, None] - rows
    return float(np.einsum("ct,tu,cu->", change, moments, change))


def layer(seed: int, terms: int, *, pairs: bool) -> tuple[Reduction, Array, Array]:
    """Return rows of random weights, second moments of correlated inputs, and the scales of the largest weights."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((400, terms)) @ random.standard_normal((terms, terms))
    rows = random.standard_normal((6, terms)).astype(np.float32)
    neighbours = (np.arange(terms // 2 * 2).reshape(-1, 2),) if pairs else ()
    return Reduction(rows, neighbours), mixed.T @ mixed / len(mixed), np.abs(rows).max(axis=1).astype(np.float64) / 127


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), terms=st.integers(2, 80), pairs=st.booleans(), per_channel=st.booleans())
def test_second_order_rounding_keeps_the_limits(seed: int, terms: int, pairs: bool, per_channel: bool) -> None:
    reduction, moments, largest = layer(seed, terms, pairs=pairs)
    if not per_channel:
        largest[:] = largest.max()
    factors = SAFE_FACTORS if pairs else FACTORS
    found = round_rows_second_order(reduction, moments[None], largest, factors, per_channel=per_channel)
    assert np.abs(found.integers).max() <= 127
    assert (found.integers == np.rint(found.integers)).all()
    assert worst_pair(found.integers, reduction.pairs) <= 128
    if not per_channel:
        assert len(np.unique(found.scale)) == 1
    error = output_error(found.integers, found.scale, reduction.rows, moments)
    assert error == pytest.approx(found.error.sum(), rel=1e-3)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("terms", [9, 64])
def test_second_order_rounding_disturbs_the_output_less_than_rounding_to_nearest(terms: int, pairs: bool) -> None:
    ratios = []
    for seed in range(20):
        reduction, moments, largest = layer(seed, terms, pairs=pairs)
        found = round_rows_second_order(
            reduction, moments[None], largest, SAFE_FACTORS if pairs else FACTORS, per_channel=True
        )
        nearest = min(
            output_error(round_rows(reduction, largest * f), largest * f, reduction.rows, moments)
            for f in (1.0, 1.1, 1.3, 1.6, 2.0)
        )
        ratios.append(output_error(found.integers, found.scale, reduction.rows, moments) / nearest)
    assert max(ratios) < 1.0
    assert np.mean(ratios) < 0.6


def test_groups_are_rounded_by_their_own_moments() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((4, 9)).astype(np.float32)
    samples = random.standard_normal((2, 50, 9)) * np.array([1.0, 5.0])[:, None, None]
    moments = np.einsum("gnt,gnu->gtu", samples, samples) / 50
    largest = np.abs(rows).max(axis=1).astype(np.float64) / 127
    both = round_rows_second_order(Reduction(rows, ()), moments, largest, FACTORS, per_channel=True)
    for group in (0, 1):
        part = slice(2 * group, 2 * group + 2)
        alone = round_rows_second_order(
            Reduction(rows[part], ()), moments[group : group + 1], largest[part], FACTORS, per_channel=True
        )
        assert (alone.integers == both.integers[part]).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), terms=st.integers(4, 80), pairs=st.booleans(), share=st.floats(0.1, 0.9))
def test_weights_that_were_pruned_stay_zero(seed: int, terms: int, pairs: bool, share: float) -> None:
    reduction, moments, largest = layer(seed, terms, pairs=pairs)
    pruned = np.random.default_rng(seed).random(reduction.rows.shape) < share
    rows = np.where(pruned, np.float32(0), reduction.rows)
    factors = SAFE_FACTORS if pairs else FACTORS
    found = round_rows_second_order(Reduction(rows, reduction.pairs), moments[None], largest, factors, per_channel=True)
    assert (found.integers[pruned] == 0).all()
    assert worst_pair(found.integers, reduction.pairs) <= 128


def test_the_factor_is_the_upper_root_of_the_inverse_of_each_group() -> None:
    rows = np.random.default_rng(4).standard_normal((3, 40, 7))
    moments = np.matmul(rows.transpose(0, 2, 1), rows) / 40
    found = _inverse_factor(moments)
    damped = moments + 0.01 * np.einsum("gii->g", moments)[:, None, None] / 7 * np.eye(7)
    np.testing.assert_array_equal(found, np.triu(found))
    np.testing.assert_allclose(np.matmul(found.transpose(0, 2, 1), found), np.linalg.inv(damped), rtol=1e-9)
