import numpy as np
import pytest

from edgepack.specs.run import Accuracy
from edgepack.verify.metrics.paired import paired_accuracy

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.normal(size=300)
BEFORE, AFTER = TRUTH + RANDOM.normal(0, 0.1, 300), TRUTH + RANDOM.normal(0, 0.3, 300)


def error_of(found):
    return lambda chosen: float(np.abs(TRUTH - found)[chosen].mean())


def test_a_metric_of_which_less_is_better_drops_when_it_grows():
    found = paired_accuracy("mae", 300, error_of(BEFORE), error_of(AFTER), 0, less=True)
    assert isinstance(found, Accuracy)
    assert found.value > found.fp32
    assert found.drop == pytest.approx(found.value - found.fp32)
    assert 0 < found.ci95[0] < found.drop < found.ci95[1]
    better = paired_accuracy("mae", 300, error_of(AFTER), error_of(BEFORE), 0, less=True)
    assert better.drop < 0


def test_the_interval_is_the_one_of_the_paired_difference():
    """Beside the normal interval of the mean of the differences, which it must be close to for a mean."""
    found = paired_accuracy("mae", 300, error_of(BEFORE), error_of(AFTER), 0, less=True)
    differences = np.abs(TRUTH - AFTER) - np.abs(TRUTH - BEFORE)
    half = 1.96 * differences.std(ddof=1) / np.sqrt(300)
    low, high = differences.mean() - half, differences.mean() + half
    assert found.ci95 == pytest.approx((low, high), abs=0.25 * half)


def test_what_changes_nothing_has_no_sign():
    found = paired_accuracy("mae", 300, error_of(BEFORE), error_of(BEFORE), 0, less=True)
    assert str(found.drop) == "0.0"


def test_the_same_seed_gives_the_same_interval():
    one, other = (paired_accuracy("m", 300, error_of(BEFORE), error_of(AFTER), 5) for _ in range(2))
    assert one == other


def test_what_has_no_figure_is_said():
    nan = paired_accuracy("mae", 3, lambda chosen: 1.0, lambda chosen: float("nan"), 0)
    assert isinstance(nan, str)
    assert "this model" in nan
    assert "the fp32 model" in str(paired_accuracy("mae", 3, lambda chosen: float("inf"), lambda chosen: 1.0, 0))


def test_a_resample_without_a_figure_is_left_out():
    def one_class(chosen):
        return float("nan") if 0 not in chosen else 0.5

    found = paired_accuracy("auroc", 4, one_class, one_class, 0)
    assert found.ci95 == (0.0, 0.0)
