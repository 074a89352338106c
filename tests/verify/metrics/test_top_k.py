from __future__ import annotations

import numpy as np

from edgepack.verify.metrics.top_k import top_k_correct


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
