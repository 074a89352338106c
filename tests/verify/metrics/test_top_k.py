from __future__ import annotations

import numpy as np
import pytest

from edgepack.verify.metrics.top_k import near_chance, top_k_correct


def test_top_k_counts_a_label_among_the_k_highest() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], np.float32)
    labels = np.array([1, 1, 0])
    assert top_k_correct(scores, labels, 1).tolist() == [True, False, False]
    assert top_k_correct(scores, labels, 2).tolist() == [True, True, False]


def test_a_constant_output_is_right_for_the_first_class_only() -> None:
    scores = np.zeros((3, 3), np.float32)
    assert top_k_correct(scores, np.array([0, 1, 2]), 1).tolist() == [True, False, False]


def test_nan_scores_are_wrong() -> None:
    scores = np.array([[np.nan, 1.0], [0.0, 1.0]], np.float32)
    assert top_k_correct(scores, np.array([1, 1]), 1).tolist() == [False, True]


def test_a_forbidden_class_has_a_score_of_minus_infinity() -> None:
    scores = np.array([[-np.inf, 1.0, 0.5], [0.0, -np.inf, -np.inf]], np.float32)
    assert top_k_correct(scores, np.array([1, 0]), 1).tolist() == [True, True]
    assert top_k_correct(scores, np.array([0, 2]), 2).tolist() == [False, False]


@pytest.mark.parametrize(
    ("right", "n", "chance"),
    [
        (2, 210, 0.001),  # labels of other classes
        (0, 40, 0.1),
        (50, 500, 0.1),  # labels in another order
        (500, 1000, 0.5),
        (20, 100, 0.5),  # both classes exchanged
    ],
)
def test_a_reference_that_hardly_guesses_better_is_suspect(right: int, n: int, chance: float) -> None:
    assert "the fp32 model itself has a top1 of" in (near_chance("top1", right, n, chance) or "")


@pytest.mark.parametrize(
    ("right", "n", "chance"),
    [
        (0, 3, 0.1),  # few samples say nothing
        (4, 10, 0.5),
        (300, 1000, 0.1),
        (580, 1000, 0.5),
        (150, 1000, 0.0001),
        (10, 10, 0.9),
    ],
)
def test_a_weak_model_is_not(right: int, n: int, chance: float) -> None:
    assert near_chance("top1", right, n, chance) is None
