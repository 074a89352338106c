from types import SimpleNamespace

import numpy as np
import pytest
from compared import Outputs, compared

from edgepack.errors import DataError
from edgepack.specs.signal_answers import Span, Spans
from edgepack.specs.task import Frame, Task
from edgepack.verify import answers as module
from edgepack.verify.metrics import METRICS
from edgepack.verify.metrics.span_f1 import count_spans, f1_of

CLASSES = ("O", "B-A", "I-A")
TEXT, PLACES = "one two six", ((0, 3), (4, 7), (8, 11))
LABELS = [Spans((Span(0, 7, "A"),)), Spans((Span(0, 3, "A"), Span(8, 11, "A"))), Spans(())]


class Tags(Outputs):
    def sample(self, index):
        return {"out": np.eye(3)[list(self.values[index])][None] * 9}


def test_a_span_is_right_where_all_of_it_is():
    found = [Spans((Span(0, 7, "A", "one two", 0.3),)), Spans((Span(0, 3, "B"), Span(8, 11, "A"))), Spans(())]
    counts = count_spans(LABELS, found)
    assert counts.tolist() == [[1, 1, 1], [1, 2, 2], [0, 0, 0]]
    assert f1_of(counts) == pytest.approx(2 / 3)
    assert np.isnan(f1_of(counts[2:]))
    with pytest.raises(DataError, match="span-f1 needs spans"):
        count_spans([3], [LABELS[0]])


@pytest.mark.parametrize(("labels", "fp32"), [(LABELS, 1.0), (None, 1.0)])
def test_spans_that_are_lost_are_a_drop(monkeypatch, labels, fp32):
    monkeypatch.setattr(module, "read_frames", lambda samples: [Frame(text=TEXT, places=PLACES)] * 3)
    before, after = [(1, 2, 0), (1, 0, 1), (0, 0, 0)], [(1, 1, 0), (1, 0, 1), (0, 0, 0)]
    found = compared(
        "span-f1", before, after, labels, SimpleNamespace(task=Task("token-classification", classes=CLASSES))
    )
    object.__setattr__(found, "expected", Tags(before))
    object.__setattr__(found, "found", Tags(after))
    result = METRICS.get("span-f1").measure(found)
    assert (result.fp32, result.value) == pytest.approx((fp32, 4 / 7))
    assert result.drop == pytest.approx(3 / 7)
