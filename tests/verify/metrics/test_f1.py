import numpy as np
import pytest
from compared import compared
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.f1 import f1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_it_is_scikit_learns(pairs):
    truth, said = (np.eye(5, dtype=bool)[list(column)] for column in zip(*pairs, strict=True))
    labels, answers = zip(*pairs, strict=True)
    assert f1(truth, said, macro=True) == pytest.approx(f1_score(labels, answers, average="macro"))
    assert f1(truth, said, macro=False) == pytest.approx(f1_score(labels, answers, average="micro"))


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=20))
def test_it_is_scikit_learns_of_several_classes_a_sample(rows):
    table = np.array(rows)
    truth, said = table[:, :3], table[:, 3:]
    there = (truth | said).any(axis=0)
    if there.sum() > 1:  # one column alone is two classes to scikit-learn
        right = f1_score(truth[:, there].astype(int), said[:, there].astype(int), average="macro", zero_division=0)
        assert f1(truth, said, macro=True) == pytest.approx(right)


def test_a_model_that_became_worse_drops():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 400)
    fp32 = np.eye(4)[labels] * 3 + random.normal(size=(400, 4))
    other = fp32 + random.normal(0, 2, (400, 4))
    for name, average in (("f1", "macro"), ("f1-micro", "micro")):
        found = METRICS.get(name).measure(compared(name, fp32, other, labels))
        assert found.fp32 == pytest.approx(f1_score(labels, fp32.argmax(1), average=average))
        assert found.value == pytest.approx(f1_score(labels, other.argmax(1), average=average))
        assert found.drop == pytest.approx(found.fp32 - found.value)
        assert 0 < found.ci95[0] < found.drop < found.ci95[1]
        alone = METRICS.get(name).measure(compared(name, fp32, other))
        assert alone.fp32 == 1.0
        assert alone.value == pytest.approx(f1_score(fp32.argmax(1), other.argmax(1), average=average))


def test_labels_of_other_classes_are_doubted():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 400)
    fp32 = np.eye(4)[labels] * 3 + random.normal(size=(400, 4))
    metric = METRICS.get("f1")
    for asked_labels, word in ((labels, None), ((labels + 1) % 4, "labels are not those of its classes"), (None, None)):
        asked = compared("f1", fp32, fp32, asked_labels)
        doubt = metric.doubt(asked, metric.measure(asked))
        assert (doubt is None) if word is None else (word in doubt)
