"""Intervals of figures that are no means."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.base.intervals import paired_difference_ci95
from edgepack.verify.resampling import paired_interval


def test_of_a_mean_it_is_close_to_the_exact_one() -> None:
    random = np.random.default_rng(0)
    one, other = random.random(300) < 0.8, random.random(300) < 0.7
    found = paired_interval(lambda w: float(w @ one / w.sum()), lambda w: float(w @ other / w.sum()), 300, 0)
    assert found == pytest.approx(paired_difference_ci95(one, other), abs=0.02)


def test_equal_models_differ_by_nothing_and_the_seed_decides() -> None:
    values = np.random.default_rng(0).random(20)

    def figure(weights: np.ndarray) -> float:
        return float(weights @ values / weights.sum())

    assert paired_interval(figure, figure, 20, 0) == (0.0, 0.0)
    one = paired_interval(figure, lambda _: 0.0, 20, 1)
    assert one == paired_interval(figure, lambda _: 0.0, 20, 1) != paired_interval(figure, lambda _: 0.0, 20, 2)
    assert all(isinstance(side, float) for side in one)


def test_draws_without_a_figure_do_not_count() -> None:
    assert paired_interval(lambda w: float("nan"), lambda w: 0.0, 5, 0) == (0.0, 0.0)
