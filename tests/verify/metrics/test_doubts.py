"""A figure of fp32 that no shipped model has is not believed, whatever the metric: the labels are likely wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
from compared import Outputs, compared

from edgepack.specs.signal_answers import Span, Spans
from edgepack.specs.task import Frame, Task
from edgepack.verify import answers as module
from edgepack.verify.metrics import METRICS

N = 2000
RANDOM = np.random.default_rng(0)
CLASSES = RANDOM.integers(0, 2, N)
SCORES = np.clip(0.5 + 0.3 * (CLASSES - 0.5) + RANDOM.normal(0, 0.15, N), 0, 1)  # AUROC 0.92
NUMBERS = RANDOM.normal(5, 2, N)
GROUPS = np.arange(500) % 25
VECTORS = np.eye(25)[GROUPS] + RANDOM.normal(0, 0.2, (500, 25))
UNRELATED = np.arange(500) // 25  # no two of a group have the same
CASES = {
    "auroc": (SCORES, CLASSES, 1 - CLASSES, "the other way round"),
    "average-precision": (SCORES, CLASSES, np.arange(N) % 2, "guessing has 0.5"),
    "precision": (SCORES, CLASSES, 1 - CLASSES, "the other way round"),
    "recall": (SCORES, CLASSES, 1 - CLASSES, "the other way round"),
    "mae": (NUMBERS + 0.5, NUMBERS, NUMBERS * 1000, "the labels' median has"),
    "rmse": (NUMBERS + 0.5, NUMBERS, NUMBERS * 1000, "the labels' mean has"),
    "spearman": (NUMBERS**3, NUMBERS, -NUMBERS, "guessing has 0"),
    "recall@1": (VECTORS, GROUPS, UNRELATED, "guessing has 4.81 %"),
    "recall@5": (VECTORS, GROUPS, UNRELATED, "guessing has 2"),
    "recall@10": (VECTORS, GROUPS, UNRELATED, "guessing has 3"),
    "nearest-centre": (VECTORS, GROUPS, UNRELATED, "guessing has 5 %"),
}  # fmt: skip
OF_ANSWERS = {"map", "map50", "mar", "oks", "miou", "pixel-accuracy"}  # in tests of their own
OTHERS = {"top1", "top5", "f1", "f1-micro", *OF_ANSWERS}


def doubt(name: str, outputs: np.ndarray, labels: np.ndarray | None) -> str | None:
    asked = compared(name, outputs, outputs, labels)
    return METRICS.get(name).doubt(asked, METRICS.get(name).measure(asked))


@pytest.mark.parametrize("name", CASES)
def test_labels_that_are_others_are_doubted_and_right_ones_are_not(name):
    outputs, right, wrong, words = CASES[name]
    assert doubt(name, outputs, right) is None
    assert words in doubt(name, outputs, wrong)
    if not METRICS.get(name).needs_labels:
        assert doubt(name, outputs, None) is None


@pytest.mark.parametrize("name", ["mae", "spearman", "auroc", "recall@1"])
def test_a_few_samples_show_nothing(name):
    outputs, _, wrong, _ = CASES[name]
    few = slice(0, 6)
    assert doubt(name, outputs[few], np.resize(wrong[:3], 6) if name == "recall@1" else wrong[few]) is None


def test_every_metric_that_reads_labels_knows_when_not_to_be_believed():
    reading = {
        name for name in METRICS.names()
        if (found := METRICS.get(name)).needs_labels or found.uses_labels or found.of_answers
    }  # fmt: skip
    reading.remove("module:function")  # the user's own figure
    assert reading == {*CASES, *OTHERS, "span-f1", "cer", "wer"}
    assert all(METRICS.get(name).doubt is not None for name in reading)


TAGS = ("O", "B-A", "I-A", "B-B")
TEXT, PLACES = "one two six", ((0, 3), (4, 7), (8, 11))


class Tagged(Outputs):
    def sample(self, index):
        return {"out": np.eye(4)[list(self.values[index])][None] * 9}


def doubt_of_spans(monkeypatch, labels: list[Spans]) -> str | None:
    """Hold what a model says, an A and a B in each of 20 texts, against labels."""
    monkeypatch.setattr(module, "read_frames", lambda samples: [Frame(text=TEXT, places=PLACES)] * 20)
    said = [(1, 0, 3)] * 20
    asked = compared("span-f1", said, said, labels, SimpleNamespace(task=Task("token-classification", classes=TAGS)))
    object.__setattr__(asked, "expected", Tagged(said))
    object.__setattr__(asked, "found", Tagged(said))
    return METRICS.get("span-f1").doubt(asked, METRICS.get("span-f1").measure(asked))


def test_spans_with_other_names_or_at_other_places_are_doubted(monkeypatch):
    right = Spans((Span(0, 3, "A"), Span(8, 11, "B")))
    assert doubt_of_spans(monkeypatch, [right] * 20) is None
    swapped = Spans((Span(0, 3, "B"), Span(8, 11, "A")))
    found = doubt_of_spans(monkeypatch, [swapped] * 20)
    assert "100 % where names do not count" in found
    assert "'B' is answered for 'A'" in found
    elsewhere = Spans((Span(4, 7, "A"),))
    assert "are not those of the model" in doubt_of_spans(monkeypatch, [elsewhere] * 20)
    assert doubt_of_spans(monkeypatch, [elsewhere] * 3 + [Spans(())] * 17) is None  # too few to say
