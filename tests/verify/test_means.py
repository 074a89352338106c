"""What outputs have in common over all samples."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.verify.means import offsets_db, sample_means


def test_the_mean_is_of_each_value() -> None:
    found = sample_means(["y"], [{"y": np.array([[1.0, 5.0]])}, {"y": np.array([[3.0, 5.0]])}])
    assert found["y"].tolist() == [[2.0, 5.0]]


def test_along_an_axis_that_differs_between_samples_there_is_one_mean() -> None:
    values = [np.array([[[1.0, 10.0]] * words]) for words in (2, 2, 3, 1)]
    values[2] = values[2] + 7
    found = sample_means(["y"], [{"y": value} for value in values])
    assert found["y"].shape == (1, 1, 2)
    assert found["y"].ravel() == pytest.approx([1 + 21 / 8, 10 + 21 / 8])


def test_what_is_not_finite_does_not_count() -> None:
    samples = [{"y": np.array([np.inf, 1.0, np.nan])}, {"y": np.array([4.0, np.nan, -np.inf])}]
    assert sample_means(["y"], samples)["y"].tolist() == [4.0, 1.0, 0.0]


def test_decisions_and_outputs_of_several_ranks_have_none() -> None:
    samples = [{"y": np.zeros(3, np.int64), "z": np.zeros(3)}, {"y": np.ones(3, np.int64), "z": np.zeros((3, 1))}]
    assert sample_means(["y", "z"], samples) == {}


def test_samples_without_values_and_without_axes() -> None:
    assert sample_means(["y"], [{"y": np.zeros((0, 6))}, {"y": np.ones((2, 6))}])["y"].tolist() == [[1.0] * 6]
    assert sample_means(["y"], [{"y": np.float32(2)}, {"y": np.float32(4)}])["y"] == 3.0


def test_large_values_do_not_take_the_precision_of_small_differences() -> None:
    values = 1e6 + np.random.default_rng(0).standard_normal((1000, 4)) * 1e-3
    found = sample_means(["y"], [{"y": value} for value in values])["y"]
    assert found == pytest.approx(values.mean(axis=0), abs=1e-8)


def test_how_much_of_the_energy_is_common() -> None:
    random = np.random.default_rng(0)
    samples = [
        {
            "y": 100 + random.standard_normal(500),
            "z": random.standard_normal(500),
            "k": np.ones(3),
            "d": np.ones(3, int),
        }
        for _ in range(4)
    ]
    found = offsets_db(samples)
    assert found["y"] == pytest.approx(40.0, abs=0.3)
    assert found["z"] == pytest.approx(0.0, abs=0.3)
    assert (found["k"], found["d"]) == (0.0, 0.0)
    assert offsets_db(samples[:1])["y"] == 0.0


def test_values_that_are_not_finite_say_nothing_of_what_is_common() -> None:
    samples = [{"y": np.array([3.0, -np.inf, np.nan])}, {"y": np.array([1.0, -np.inf, 5.0])}]
    assert np.isfinite(offsets_db(samples)["y"])
