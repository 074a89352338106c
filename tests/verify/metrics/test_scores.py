import numpy as np
import pytest
from compared import compared

from edgepack.errors import DataError
from edgepack.verify.metrics.scores import decide, read_scores

LOGITS = np.array([[2.0, -1.0, 0.0], [0.0, 3.0, 1.0]], np.float32)


def test_logits_become_probabilities_and_probabilities_stay():
    found = read_scores(compared("f1", LOGITS, LOGITS * 2, np.array([0, 1])))
    np.testing.assert_allclose(found.fp32.sum(axis=1), 1)
    assert found.exclusive
    np.testing.assert_array_equal(found.truth, [[True, False, False], [False, True, False]])
    again = read_scores(compared("f1", found.fp32, found.other, np.array([0, 1])))
    np.testing.assert_array_equal(again.fp32, found.fp32)


def test_one_score_a_sample_is_a_class_that_it_has_or_not():
    found = read_scores(compared("f1", np.array([-2.0, 3.0]), np.array([0.0, 1.0]), np.array([0, 1])))
    np.testing.assert_allclose(found.fp32[:, 0], [1 / (1 + np.e**2), 1 / (1 + np.e**-3)])
    np.testing.assert_array_equal(found.truth[:, 0], [False, True])
    assert not found.exclusive
    np.testing.assert_array_equal(decide(found.fp32, exclusive=False)[:, 0], [False, True])


def test_labels_of_several_classes_a_sample_make_each_a_decision():
    found = read_scores(compared("f1", LOGITS, LOGITS, np.array([[1, 0, 1], [0, 0, 0]])))
    assert not found.exclusive
    np.testing.assert_allclose(found.fp32, 1 / (1 + np.exp(-LOGITS.astype(float))))


def test_without_labels_what_fp32_answers_is_true():
    found = read_scores(compared("f1", LOGITS, LOGITS[::-1], None))
    np.testing.assert_array_equal(found.truth.argmax(axis=1), [0, 1])


def test_nan_says_no_class():
    scores = np.array([[np.nan, 1.0], [0.2, 0.8]])
    np.testing.assert_array_equal(decide(scores, exclusive=True), [[False, False], [False, True]])
    np.testing.assert_array_equal(decide(scores, exclusive=False), [[False, True], [False, True]])


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (LOGITS, np.array([0, 3]), "labels from 0 to 2; they are 0 to 3"),
        (LOGITS, np.array([-1, 0]), "labels from 0 to 2"),
        (LOGITS, np.array([0.5, 1.0]), "whole number"),
        (LOGITS, np.array([0, 1, 1]), "each of 2 samples"),
        (LOGITS, np.array([[0, 2, 0], [0, 0, 0]]), "labels from 0 to 2"),
        (np.zeros((2, 3, 4)), np.array([0, 1]), "needs a first output of scores"),
        (np.array([["a"], ["b"]]), np.array([0, 1]), "needs a first output of scores"),
    ],
)
def test_what_does_not_fit_is_named(scores, labels, words):
    with pytest.raises(DataError, match=words) as error:
        read_scores(compared("f1", scores, scores, labels))
    assert error.value.hint
