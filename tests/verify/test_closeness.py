from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.verify import closeness
from edgepack.verify.closeness import ClosenessSums


def test_the_worst_output_is_reported() -> None:
    generator = np.random.default_rng(0)
    sums = ClosenessSums(("good", "bad"))
    for _ in range(50):
        good, bad = generator.normal(size=(1, 8)), generator.normal(size=(1, 4, 4))
        noisy = bad + generator.normal(size=bad.shape) * 0.1
        sums.add({"good": good, "bad": bad}, {"good": good + 1e-6, "bad": noisy})
    result = sums.result(seed=0)
    assert result.sqnr_db == pytest.approx(20, abs=1.5)
    assert result.sqnr_ci95_db is not None
    assert result.sqnr_ci95_db[0] < result.sqnr_db < result.sqnr_ci95_db[1]
    assert result.n == 50


def test_identical_outputs_have_no_sqnr_and_agree() -> None:
    sums = ClosenessSums(("y",))
    scores = np.array([[0.1, 0.9]], np.float32)
    for _ in range(3):
        sums.add({"y": scores}, {"y": scores})
    result = sums.result(seed=0)
    assert (result.sqnr_db, result.cosine, result.agreement) == (None, pytest.approx(1), 1.0)
    assert result.agreement_ci95 is not None
    assert result.agreement_ci95[0] < 1


def test_outputs_of_another_shape_and_nan_count_as_pure_noise() -> None:
    sums = ClosenessSums(("y",))
    sums.add({"y": np.ones((1, 3, 3))}, {"y": np.ones((1, 3))})
    sums.add({"y": np.ones((1, 3, 3))}, {"y": np.full((1, 3, 3), np.nan)})
    result = sums.result(seed=0)
    assert result.sqnr_db == pytest.approx(0)
    assert result.cosine == 0
    assert result.agreement is None


def test_every_row_of_a_batch_counts() -> None:
    sums = ClosenessSums(("y",))
    sums.add({"y": np.eye(4, dtype=np.float32)}, {"y": np.eye(4, dtype=np.float32)[:, ::-1]})
    result = sums.result(seed=0)
    assert result.n == 4
    assert result.agreement == 0


def test_models_agree_where_they_give_the_same_class_and_no_nan() -> None:
    scores = np.array([[np.nan, 1.0], [0.0, 1.0]], np.float32)
    assert closeness.agreement(np.array([[0.0, 1.0], [0.0, 1.0]]), scores).tolist() == [False, True]


def test_equal_infinities_agree_and_count_for_nothing() -> None:
    """A forbidden class has the score -inf in both models; the others decide."""
    sums = ClosenessSums(("y",))
    fp32 = np.array([[-np.inf, 3.0, 4.0, np.nan]], np.float32)
    sums.add({"y": fp32[:, :3]}, {"y": np.array([[-np.inf, 3.0, 4.5]], np.float32)})
    result = sums.result(seed=0)
    assert result.sqnr_db == pytest.approx(20)
    assert (result.agreement, result.nonfinite) == (1.0, 0)
    same = ClosenessSums(("y",))
    same.add({"y": fp32}, {"y": fp32})
    assert same.result(seed=0).identical


@pytest.mark.parametrize("bad", [[-np.inf, np.inf], [0.0, 4.0], [-np.inf, np.nan]])
def test_infinities_and_nan_in_one_model_only_are_noise_and_never_exact(bad: list[float]) -> None:
    sums = ClosenessSums(("y",))
    sums.add({"y": np.array([[-np.inf, 4.0]], np.float32)}, {"y": np.array([bad], np.float32)})
    result = sums.result(seed=0)
    assert result.sqnr_db == pytest.approx(0)
    assert (result.nonfinite, result.identical) == (1, False)


@pytest.mark.parametrize("factor", [1.0, 1e-200, 1e200])
def test_pure_noise_is_never_exact(factor: float) -> None:
    generator = np.random.default_rng(0)
    sums = ClosenessSums(("y",))
    for _ in range(20):
        sums.add({"y": generator.normal(size=(1, 9))}, {"y": factor * generator.normal(size=(1, 9))})
    result = sums.result(seed=0)
    assert result.sqnr_db is not None
    assert result.sqnr_db < 1
    assert math.isfinite(result.cosine)
    assert not result.identical


def test_noise_where_the_fp32_output_is_all_zero_is_never_exact() -> None:
    sums = ClosenessSums(("y",))
    sums.add({"y": np.zeros((1, 4))}, {"y": np.full((1, 4), 255.0)})
    assert sums.result(seed=0).sqnr_db == -200


def test_decisions_are_counted_and_have_no_sqnr() -> None:
    sums = ClosenessSums(("best", "amount"))
    huge = np.array([2**62, 2, 3, 4])
    sums.add({"best": huge, "amount": np.ones(3)}, {"best": huge + np.array([1, 0, 0, 0]), "amount": np.ones(3)})
    result = sums.result(seed=0)
    assert (result.sqnr_db, result.mismatch, result.identical) == (None, 0.25, False)
    assert sums.decisions() == {"best": (1, 4)}


@given(st.floats(-60, 60))
def test_sqnr_is_the_ratio_of_energies_in_db(db: float) -> None:
    signal = np.array([4.0, 6.0])
    noise = signal * 10 ** (-db / 10)
    assert closeness.sqnr_db(signal, noise) == pytest.approx(db, abs=1e-6)


def test_sqnr_of_identical_outputs_has_no_number() -> None:
    assert closeness.sqnr_db(np.ones(3), np.zeros(3)) is None
    assert closeness.sqnr_ci95_db(np.ones(3), np.zeros(3), 0) is None


def test_the_sqnr_interval_holds_the_figure_and_is_reproducible() -> None:
    generator = np.random.default_rng(3)
    signal, noise = generator.gamma(2, 1, 80), generator.gamma(2, 0.01, 80)
    interval = closeness.sqnr_ci95_db(signal, noise, 5)
    figure = closeness.sqnr_db(signal, noise)
    assert interval is not None
    assert figure is not None
    assert interval[0] < figure < interval[1]
    assert interval == closeness.sqnr_ci95_db(signal, noise, 5)
    assert math.isfinite(interval[0])
