import numpy as np
import pytest
from compared import compared
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from edgepack.errors import DataError
from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.regression import mae, rmse, spearman

PAIRS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30)


@given(PAIRS)
def test_they_are_those_of_scikit_learn_and_scipy(pairs):
    truth, found = (np.array(column, float) for column in zip(*pairs, strict=True))
    assert mae(truth, found) == pytest.approx(mean_absolute_error(truth, found))
    assert rmse(truth, found) == pytest.approx(root_mean_squared_error(truth, found))
    if len(set(truth)) > 1 and len(set(found)) > 1:
        assert spearman(truth, found) == pytest.approx(spearmanr(truth, found).statistic)
    else:
        assert np.isnan(spearman(truth, found))


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_an_error_that_grew_is_a_drop(name):
    assert METRICS.get(name).less_is_better
    random = np.random.default_rng(0)
    truth = random.normal(size=(200, 1))
    fp32, other = truth + random.normal(0, 0.1, (200, 1)), truth + random.normal(0, 0.2, (200, 1))
    found = METRICS.get(name).measure(compared(name, fp32, other, truth[:, 0]))
    assert found.value > found.fp32 > 0
    assert found.drop == pytest.approx(found.value - found.fp32)
    assert 0 < found.ci95[0] < found.drop
    alone = METRICS.get(name).measure(compared(name, fp32, other))
    assert alone.fp32 == 0
    assert alone.drop == alone.value > 0


def test_a_worse_order_is_a_drop():
    random = np.random.default_rng(0)
    truth = random.normal(size=200)
    found = METRICS.get("spearman").measure(
        compared("spearman", truth[:, None], truth[:, None] + random.normal(0, 1, (200, 1)), truth)
    )
    assert found.fp32 == pytest.approx(1)
    assert 0 < found.ci95[0] < found.drop


def test_what_does_not_fit_is_named_and_nan_has_no_figure():
    with pytest.raises(DataError, match="as many numbers in the labels"):
        METRICS.get("mae").measure(compared("mae", np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3)))
    broken = np.array([0.0, np.nan, 1.0])
    assert "this model" in METRICS.get("mae").measure(compared("mae", np.zeros(3), broken, np.zeros(3)))
    assert "this model" in METRICS.get("spearman").measure(compared("spearman", np.arange(3.0), broken, np.arange(3)))
