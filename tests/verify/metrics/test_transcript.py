from types import SimpleNamespace

import numpy as np
import pytest
from compared import Outputs, compared

from edgepack.errors import DataError
from edgepack.specs.task import Frame, Task
from edgepack.verify import answers as module
from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.transcript import edits, letters, rate, words

TRUTH, FP32, OTHER = ["the cat sat", "a", "dog"], ["the cat sat", "a", "dig"], ["the bat", "b", "dog"]
CHARSET = "abcdeghiost "


def test_letters_in_another_order_are_doubted(both):
    for metric in ("cer", "wer"):
        assert METRICS.get(metric).doubt(*both(metric, ["the cat sat on it", "a dog", "dog"], asked=True)) is None
        found = METRICS.get(metric).doubt(*both(metric, ["bghibghibghi", "oooo", "aaaa"], asked=True))
        assert "of the letters wrong (n=3)" in found
    assert METRICS.get("cer").doubt(*both("cer", None, asked=True)) is None
    assert METRICS.get("cer").doubt(*both("cer", ["b", "c", "h"], asked=True)) is None  # too few to say


def test_rates_are_all_edits_by_all_letters_or_words():
    wrong, lengths = edits(letters, TRUTH, OTHER)
    assert (wrong.tolist(), lengths.tolist()) == ([5, 1, 0], [11, 1, 3])
    assert rate(wrong, lengths) == 6 / 15
    wrong, lengths = edits(words, TRUTH, OTHER)
    assert rate(wrong, lengths) == 3 / 5
    assert np.isnan(rate(wrong * 0, lengths * 0))


def spoken(text: str) -> np.ndarray:
    """Scores [1, moments, classes] that are read as ``text``."""
    moments = [number for letter in text for number in (CHARSET.index(letter) + 1, 0)]
    return np.eye(len(CHARSET) + 1)[moments][None]


class Texts(Outputs):
    def sample(self, index):
        return {"out": spoken(self.values[index])}


@pytest.fixture
def both(monkeypatch):
    """Return a function that compares FP32 with OTHER; what lies where is known of no sample."""
    monkeypatch.setattr(module, "read_frames", lambda samples: [Frame()] * 3)
    task = Task("text-recognition", settings={"charset": CHARSET})

    def compare(metric, labels, task=task, asked=False):
        found = compared(metric, FP32, OTHER, labels, SimpleNamespace(task=task, classes=()))
        object.__setattr__(found, "expected", Texts(FP32))
        object.__setattr__(found, "found", Texts(OTHER))
        measured = METRICS.get(metric).measure(found)
        return (found, measured) if asked else measured

    return compare


def test_more_errors_are_a_drop(both):
    found = both("cer", TRUTH)
    assert METRICS.get("cer").less_is_better
    assert (found.fp32, found.value) == pytest.approx((1 / 15, 6 / 15))
    assert found.drop == pytest.approx(5 / 15)
    assert both("wer", TRUTH).drop == pytest.approx(2 / 5)


def test_without_labels_fp32s_texts_are_true(both):
    found = both("cer", None)
    assert found.fp32 == 0
    assert found.drop == found.value == pytest.approx(7 / 15)


def test_answers_that_are_no_texts_are_refused(both):
    with pytest.raises(DataError, match="cer needs texts; tensors are answered"):
        both("cer", TRUTH, Task("tensors"))
