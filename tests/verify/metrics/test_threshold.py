from types import SimpleNamespace

import numpy as np
import pytest
from compared import compared
from sklearn.metrics import precision_score, recall_score

from edgepack.specs.task import Task
from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.threshold import share

RANDOM = np.random.default_rng(1)
LABELS = RANDOM.integers(0, 2, 200)
FP32 = 2.0 * LABELS - 1 + RANDOM.normal(size=200)
OTHER = FP32 + RANDOM.normal(size=200)
RIGHT = {"precision": precision_score, "recall": recall_score}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_they_are_scikit_learns(name, threshold):
    logit = np.log(threshold / (1 - threshold))
    task = SimpleNamespace(task=Task("text-classification", settings={"threshold": threshold}))
    right = RIGHT[name](LABELS, logit <= FP32), RIGHT[name](LABELS, logit <= OTHER)
    found = METRICS.get(name).measure(compared(name, FP32[:, None], OTHER[:, None], LABELS, task))
    assert (found.fp32, found.value) == pytest.approx(right)
    two = [np.stack([np.zeros(200), scores], axis=1) for scores in (FP32, OTHER)]
    found = METRICS.get(name).measure(compared(name, *two, LABELS, task))
    assert (found.fp32, found.value) == pytest.approx(right), "the second of two classes is what is looked for"


def test_over_several_classes_all_decisions_count():
    truth = np.array([[1, 0, 1], [0, 1, 0]], bool)
    said = np.array([[1, 1, 0], [0, 1, 0]], bool)
    assert share(truth, said, recall=False) == pytest.approx(2 / 3)
    assert share(truth, said, recall=True) == pytest.approx(2 / 3)
    assert np.isnan(share(truth, said & False, recall=False))
