import numpy as np
import pytest
from compared import compared
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.ranking import auroc, average_precision, ranks

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40)


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30))
def test_ranks_are_scipys(values):
    np.testing.assert_allclose(ranks(np.array(values)), rankdata(values))


@given(ROWS)
def test_they_are_scikit_learns_with_equal_scores_too(rows):
    truth, scores = (np.array(column) for column in zip(*rows, strict=True))
    if truth.any() and not truth.all():
        assert auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
        assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))
    else:
        assert np.isnan(auroc(truth, scores))


def test_of_several_classes_it_is_the_mean_over_them():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    fp32 = np.eye(3)[labels] + random.normal(size=(200, 3))
    other = fp32 + random.normal(size=(200, 3))
    soft = [np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) for s in (fp32, other)]
    found = METRICS.get("auroc").measure(compared("auroc", fp32, other, labels))
    right = [roc_auc_score(labels, s, multi_class="ovr", average="macro") for s in soft]
    assert (found.fp32, found.value) == pytest.approx(tuple(right))
    assert found.ci95[0] < found.drop < found.ci95[1]
    found = METRICS.get("average-precision").measure(compared("average-precision", fp32, other, labels))
    right = [average_precision_score(np.eye(3)[labels], s, average="macro") for s in soft]
    assert (found.fp32, found.value) == pytest.approx(tuple(right))


def test_nan_is_ranked_last_and_one_class_has_no_figure():
    scores, labels = np.array([0.9, 0.8, 0.1, 0.2]), np.array([1, 1, 0, 0])
    broken = np.array([np.nan, 0.8, 0.1, 0.2])
    found = METRICS.get("auroc").measure(compared("auroc", scores, broken, labels))
    assert (found.fp32, found.value) == (1.0, 0.5)
    assert "labels are all alike" in METRICS.get("auroc").measure(compared("auroc", scores, scores, labels * 0))
