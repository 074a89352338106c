from __future__ import annotations

import numpy as np
import pytest

from edgepack.verify.metrics.top_k import near_chance, other_order, top_k_correct


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


def scores_of(labels: np.ndarray, classes: int, wrong: float) -> np.ndarray:
    """Scores of a model that is right but for a share of the samples."""
    random = np.random.default_rng(0)
    answers = np.where(random.random(len(labels)) < wrong, random.integers(0, classes, len(labels)), labels)
    return np.eye(classes)[answers]


def test_labels_in_another_order_are_seen_and_the_names_said() -> None:
    labels = np.repeat(np.arange(10), 20)
    scores = scores_of(labels, 10, 0.1)
    as_text = np.array([sorted(range(10), key=lambda n: f"class {n + 1}").index(n) for n in range(10)])
    assert other_order(scores, labels) is None
    said = other_order(scores, as_text[labels], tuple(f"name {n}" for n in range(10)))
    assert said is not None
    assert "another order" in said
    assert "name" in said


@pytest.mark.parametrize("seed", range(5))
def test_a_weak_model_is_not_taken_for_one(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 12, 240)
    assert other_order(scores_of(labels, 12, 0.9), labels) is None
    assert other_order(np.random.default_rng(seed).random((240, 12)), labels) is None
    assert other_order(np.eye(12)[np.zeros(240, int)], labels) is None, "always the same answer"
    assert other_order(scores_of(labels, 12, 0.0), (labels + 1) % 12) is not None


@pytest.mark.parametrize("shares", [(1, 1, 1), (4, 1, 1), (1, 1), (9, 1)], ids=str)
@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_model_of_nearly_one_answer_shows_no_order(shares: tuple[int, ...], others: int) -> None:
    labels = np.repeat(np.arange(len(shares)), np.array(shares) * 20)
    for answer in range(len(shares) + 1):
        answers = np.full(len(labels), answer)
        answers[:others] = (answer + 1) % len(shares)
        assert other_order(np.eye(len(shares) + 1)[answers], labels) is None


def test_uneven_classes_in_another_order_are_seen() -> None:
    labels = np.repeat(np.arange(3), [80, 20, 20])
    said = other_order(np.eye(3)[(labels + 1) % 3], labels)
    assert said is not None
    assert "renumbered, 100 % of 120 samples are right, and 0 % as they are" in said


def test_few_samples_show_no_order() -> None:
    assert other_order(np.eye(10), np.roll(np.arange(10), 1)) is None


def test_no_renumbering_is_searched_for_where_none_could_be_better(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object, **_more: object) -> None:
        raise AssertionError("scipy was asked")

    monkeypatch.setattr("scipy.optimize.linear_sum_assignment", refuse)
    labels = np.repeat(np.arange(10), 20)
    assert other_order(scores_of(labels, 10, 0.1), labels) is None
    with pytest.raises(AssertionError, match="asked"):
        other_order(scores_of((labels + 1) % 10, 10, 0.1), labels)
