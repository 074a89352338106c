"""Scores as the best classes."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.tasks.image_classification import best, class_scores, probabilities


def test_scores_become_probabilities_unless_they_are() -> None:
    logits = np.array([1.0, 2.0, 3.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert probabilities(logits, "auto") == pytest.approx(expected)
    assert probabilities(expected, "auto") == pytest.approx(expected)
    assert probabilities(expected, "softmax") != pytest.approx(expected)
    assert probabilities(logits, "none").tolist() == logits.tolist()
    assert probabilities(np.array([0.0, np.log(3)]), "sigmoid") == pytest.approx([0.5, 0.75])


def test_large_logits_overflow_nothing() -> None:
    assert probabilities(np.array([1e4, -1e4, 1e4], np.float32), "softmax") == pytest.approx([0.5, 0, 0.5])


def test_the_best_come_first_and_of_equals_the_lower_class() -> None:
    found = best(np.array([0.1, 0.4, 0.1, 0.4]), ("a", "b"), 3)
    assert found.numbers == (1, 3, 0)
    assert found.names == ("b", "", "a")


@pytest.mark.parametrize(
    ("score", "activation", "second"),
    [(0.8, "auto", 0.8), (0.8, "none", 0.8), (0.2, "auto", 0.2), (np.log(3), "auto", 0.75), (0.0, "sigmoid", 0.5)],
)
def test_one_score_is_that_of_the_second_of_two_classes(score: float, activation: str, second: float) -> None:
    found = probabilities(np.array([[score]]), activation)
    assert found == pytest.approx([1 - second, second])


@pytest.mark.parametrize("value", [np.array([2]), np.array(["setosa"]), np.zeros((1, 0), np.float32)])
def test_a_label_is_no_class_scores(value: np.ndarray) -> None:
    with pytest.raises(DataError, match="'label' is not class scores"):
        class_scores({"label": value, "scores": np.zeros((1, 3))})
