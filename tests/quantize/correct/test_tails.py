"""How much further than the samples seen the next one may go."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.quantize.correct.tails import FEWEST, tail_lengths


def test_the_length_of_exponential_tails_is_found() -> None:
    lengths = np.repeat([0.5, 2.0], 500)
    found = tail_lengths(7 + np.random.default_rng(0).exponential(lengths, (32, 1000)))
    assert found[:500].mean() == pytest.approx(0.5, rel=0.1)
    assert found[500:].mean() == pytest.approx(2.0, rel=0.1)


def test_tails_longer_than_exponential_count_as_longer_and_shorter_ones_as_shorter() -> None:
    random = np.random.default_rng(0)
    exponential, even = random.exponential(1.0, (32, 500)), random.random((32, 500))

    def against_excess(extremes: np.ndarray) -> float:
        ordered = np.sort(extremes, axis=0)
        return float((tail_lengths(extremes) / (ordered[-8:].mean(axis=0) - ordered[-9])).mean())

    assert against_excess(even) < 0.8 * against_excess(exponential)
    assert against_excess(exponential**2) > 1.2 * against_excess(exponential)


def test_few_samples_and_equal_ones_show_no_tail() -> None:
    assert not tail_lengths(np.random.default_rng(0).random((FEWEST - 1, 3))).any()
    assert not tail_lengths(np.ones((20, 3))).any()
    assert tail_lengths(np.random.default_rng(0).random((FEWEST, 3))).all()


def test_values_that_are_not_finite_show_no_tail() -> None:
    extremes = np.random.default_rng(0).random((20, 3))
    extremes[4, 1] = np.inf
    with np.errstate(invalid="ignore"):
        assert not tail_lengths(extremes).any()
