"""Which parts of an answer another answer gives again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.specs.answer import Boxes, Classes, Mask, Tensors
from edgepack.specs.signal_answers import Anomaly, Numbers, Span, Spans, Transcript, Vector
from edgepack.verify.found_again import Again, kind_of_answer


def boxes(*rows: tuple[float, float, float, float], numbers: Any = None, points: Any = None) -> Boxes:
    corners = np.array(rows, np.float64).reshape(-1, 4)
    count = len(corners)
    of_points = None if points is None else np.array(points, np.float64)
    numbers = np.zeros(count, np.intp) if numbers is None else np.array(numbers)
    return Boxes(corners, np.linspace(0.9, 0.5, count), numbers, 100, 100, points=of_points)


def compare(first: Any, shown: Any, everything: Any = None) -> Again:
    kind = kind_of_answer(first)
    assert kind is not None
    return kind.compare(first, shown, shown if everything is None else everything)


ONE, MOVED, FAR = (0.0, 0.0, 10.0, 10.0), (2.0, 0.0, 12.0, 10.0), (50.0, 50.0, 60.0, 60.0)


def test_boxes_are_found_again_where_they_overlap_by_half() -> None:
    assert compare(boxes(ONE, FAR), boxes(MOVED)) == Again(2, 1)  # IoU 2/3
    assert compare(boxes(ONE), boxes((5.0, 0.0, 15.0, 10.0))) == Again(1, 1)  # IoU 1/3


def test_boxes_of_another_class_are_others() -> None:
    assert compare(boxes(ONE), boxes(ONE, numbers=[1])) == Again(1, 1)


def test_each_box_stands_for_one() -> None:
    assert compare(boxes(ONE, MOVED), boxes(ONE)) == Again(2, 1)
    # Each has a partner only where the nearest pair is made first.
    assert compare(boxes((1.0, 0.0, 11.0, 10.0), ONE), boxes(ONE, MOVED)) == Again(2, 0)


def test_what_is_found_with_too_low_a_score_is_counted_apart() -> None:
    assert compare(boxes(ONE, FAR), boxes(), boxes(ONE)) == Again(2, 2, 1)


def test_points_must_be_found_too() -> None:
    at = [[[2.0, 2.0, 1.0], [8.0, 8.0, 1.0]]]
    away = [[[9.0, 2.0, 1.0], [1.0, 8.0, 1.0]]]
    far = [[[60.0, 2.0, 1.0], [-70.0, 8.0, 1.0]]]
    assert compare(boxes(ONE, points=at), boxes(ONE, points=at)) == Again(1, 0)
    assert compare(boxes(ONE, points=at), boxes(ONE, points=away)) == Again(1, 0)  # exp(-49 / 200) and exp(-49 / 200)
    assert compare(boxes(ONE, points=at), boxes(ONE, points=far)) == Again(1, 1)


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(51, 100)] * 2), max_size=6, unique=True))
def test_boxes_are_found_again_in_themselves(rows: Any) -> None:
    found = boxes(*rows)
    assert compare(found, found) == Again(len(rows), 0)
    assert compare(found, boxes(), found) == Again(len(rows), len(rows), len(rows))


def test_the_best_class_counts_and_nothing_is_the_best_of_nan() -> None:
    first = Classes((3, 1), ("", ""), (0.9, 0.1))
    assert compare(first, Classes((3, 2), ("", ""), (0.5, 0.4))) == Again(1, 0)
    assert compare(first, Classes((1, 3), ("", ""), (0.5, 0.4))) == Again(1, 1)
    assert compare(first, Classes((3, 1), ("", ""), (math.nan, math.nan))) == Again(1, 1)


def test_pixels_of_masks_are_counted() -> None:
    first, other = Mask(np.zeros((2, 3), np.uint16)), Mask(np.array([[0, 1, 0], [0, 0, 2]], np.uint16))
    assert compare(first, other) == Again(6, 2)
    assert compare(first, Mask(np.zeros((1, 1), np.uint16))) == Again(6, 6)


@pytest.mark.parametrize(
    ("first", "same", "other", "n"),
    [
        (Transcript("a", 0.9), Transcript("a", 0.2), Transcript("b"), 1),
        (Anomaly(2.0, 1.0), Anomaly(3.0, 1.0), Anomaly(0.5, 1.0), 1),
        (Spans((Span(0, 2, "name"),)), Spans((Span(0, 2, "name", score=0.1),)), Spans((Span(0, 3, "name"),)), 1),
    ],
)
def test_others_are_the_same_or_not(first: Any, same: Any, other: Any, n: int) -> None:
    assert compare(first, same) == Again(n, 0)
    assert compare(first, other) == Again(n, 1)


@pytest.mark.parametrize("answer", [Numbers((1.0,)), Tensors({}), Vector(np.zeros(2)), Anomaly(1.0)])
def test_amounts_are_never_simply_the_same(answer: Any) -> None:
    assert kind_of_answer(answer) is None
