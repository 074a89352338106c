"""What counts as the same answer: order and edges do not matter, another box or class does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgepack.specs.answer import Boxes, Classes, Mask
from edgepack.specs.task import Frame, Task
from edgepack.verify.same_answers import STRICT, compare_answers, difference

FRAME = Frame(100, 100, 100, 100)


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Boxes:
    values = np.array(rows, float).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 4], values[:, 5].astype(int), 100, 100)


ONE, TWO = (10, 10, 40, 40, 0.9, 1), (50, 50, 90, 90, 0.8, 2)


@pytest.mark.parametrize(
    ("found", "differing"),
    [
        (boxes(ONE, TWO), 0),
        (boxes(TWO, ONE), 0),
        (boxes((10.3, 10, 40, 39.8, 0.7, 1), TWO), 0),
        (boxes(ONE), 1),
        (boxes(ONE, TWO, (0, 0, 9, 9, 0.6, 3)), 1),
        (boxes(ONE, (50, 50, 90, 90, 0.8, 3)), 2),
        (boxes(ONE, (51, 50, 90, 90, 0.8, 2)), 2),
        (boxes(ONE, ONE, TWO), 1),
        (boxes(ONE, TWO, (0, 0, 9, 9, 0.26, 3)), 0),
    ],
    ids=["same", "order", "near", "lost", "gained", "class", "moved", "twice", "at the edge"],
)
def test_boxes(found: Boxes, differing: int) -> None:
    assert difference(boxes(ONE, TWO), found, STRICT, 0.25).differing == differing


def test_the_largest_difference_is_of_sides() -> None:
    found = difference(boxes(ONE, TWO), boxes((10.25, 10, 40, 40, 0.9, 1), TWO), STRICT, 0.25)
    assert (found.things, found.largest) == (2, 0.25)
    assert difference(boxes(), boxes(), STRICT, 0.25).things == 0


@pytest.mark.parametrize(
    ("numbers", "scores", "differing"),
    [((1, 2), (0.8, 0.1), 0), ((2, 1), (0.8, 0.1), 1), ((1, 2), (0.7, 0.2), 1), ((1, 2), (0.801, 0.1), 0)],
)
def test_classes(numbers: tuple[int, int], scores: tuple[float, float], differing: int) -> None:
    expected = Classes((1, 2), ("", ""), (0.8, 0.1))
    assert difference(expected, Classes(numbers, ("", ""), scores), STRICT).differing == differing


def test_a_tie_may_fall_either_way() -> None:
    found = difference(Classes((1, 2), ("", ""), (0.5, 0.495)), Classes((2, 1), ("", ""), (0.5, 0.49)), STRICT)
    assert found.differing == 0


def outputs(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    values = np.zeros((4, 6), np.float32)
    values[: len(rows)] = np.array(rows, np.float32).reshape(-1, 6)
    return {"boxes": values[None, :, :4], "scores": values[None, :, 4], "classes": values[None, :, 5].astype(np.int32)}


@pytest.mark.parametrize(("precision", "most"), [("fp32", 0), ("int8", 1)])
def test_outputs_are_compared_by_what_they_answer(precision, most: int) -> None:
    task = Task("object-detection", "boxes-scores-classes", parameters={
        "form": "xyxy", "normalized": False, "scores": "scores", "classes": "classes",
    })  # fmt: skip
    compare = compare_answers(task, FRAME, precision)
    reference = [outputs(ONE, TWO), outputs(ONE)]
    same = compare(reference, [outputs(TWO, ONE), outputs(ONE)], None)
    assert {one.name for one in same} == {"boxes", "scores", "classes"}
    assert all(one.passed and one.mismatch == 0 for one in same)
    lost = compare(reference, [outputs(ONE), outputs(ONE)], None)
    assert all(one.passed == (most >= 1) for one in lost)
    assert lost[0].mismatch == pytest.approx(1 / 3)
    assert not any(one.passed for one in compare(reference, [outputs(), outputs()], None))


def test_outputs_of_another_shape_fail_as_such() -> None:
    compare = compare_answers(Task("image-classification", settings={"final": True}), FRAME, "fp32")
    one = {"scores": np.zeros((1, 2), np.float32), "classes": np.zeros((1, 2), np.int32)}
    (found, _) = compare([one], [{**one, "scores": np.zeros((1, 3), np.float32)}], None)
    assert not found.passed
    assert "shape" in str(found.note)


@pytest.mark.parametrize(("others", "differing"), [(0, 0), (5, 0), (6, 1)])
def test_masks_may_differ_by_half_a_percent_of_their_pixels(others: int, differing: int) -> None:
    labels = np.zeros((20, 50), np.uint16)
    found = labels.copy()
    found.ravel()[:others] = 1
    compared = difference(Mask(labels), Mask(found), STRICT)
    assert (compared.things, compared.differing, compared.largest) == (1, differing, others / 1000)


@pytest.mark.parametrize(("away", "differing"), [(0.4, 0), (0.6, 2)])  # a lost one and another one
def test_points_may_be_half_a_pixel_away(away: float, differing: int) -> None:
    def with_points(moved: float) -> Boxes:
        points = np.array([[[20.0, 20.0, 0.9], [30.0 + moved, 30.0, 0.1]]])
        return dataclasses.replace(boxes(ONE), points=points)

    compared = difference(with_points(0.0), with_points(away), STRICT, 0.25)
    assert compared.differing == differing
    assert compared.largest == pytest.approx(0.0 if differing else away)
