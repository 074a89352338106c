import json

import numpy as np

from edgepack.specs.signal_answers import Anomaly, Numbers, Segment, Segments, Span, Spans, Transcript, Vector

ANSWERS = (
    Vector(np.arange(9, dtype=np.float32)),
    Transcript("new\nyork", 0.5),
    Spans((Span(0, 3, "LOC", "new", 0.9),)),
    Numbers((1.5, float("inf")), ("a",), "m"),
    Anomaly(float("nan"), 0.5),
    Segments((Segment(0.5, 1.25),), 2.0, 0.9),
)


def test_every_answer_is_lines_and_json():
    for found in ANSWERS:
        assert all(isinstance(line, str) and line for line in found.lines())
        json.dumps(found.summary(), allow_nan=False)
    assert ANSWERS[0].lines() == ("9 numbers: 0.0000 1.0000 2.0000 3.0000 4.0000 5.0000 ...",)
    assert ANSWERS[2].lines() == ("0.900 LOC 0-3 new",)
    assert ANSWERS[3].lines() == ("a 1.5 m", "inf m")
    assert ANSWERS[5].lines() == ("0.50 s to 1.25 s speech",)
    assert list(ANSWERS[5]) == [Segment(0.5, 1.25)]


def test_a_label_is_what_it_says():
    one, other = Spans((Span(0, 3, "LOC", "new", 0.9),)), Spans((Span(0, 3, "LOC"),))
    assert one.digest() == other.digest()
    assert one.digest() != Spans((Span(0, 4, "LOC"),)).digest()
