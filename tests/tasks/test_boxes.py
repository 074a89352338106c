"""Suppression against a plain implementation of the same definition, and boxes back in their picture."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer
from edgepack.tasks.boxes import areas, from_centers, likeness, overlaps, pair, points_to_picture, suppress, to_picture


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total if total > 0 else 0.0


def plain_suppress(corners: np.ndarray, scores: np.ndarray, numbers: np.ndarray | None, iou: float) -> list[int]:
    """As torchvision's nms and batched_nms are documented, box by box."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        same = [k for k in kept if numbers is None or numbers[k] == numbers[i]]
        if all(plain_iou(corners[k], corners[i]) <= iou for k in same):
            kept.append(i)
    return kept


def boxes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centers = np.concatenate([random.uniform(0, 60, (n, 2)), random.uniform(0, 30, (n, 2))], axis=1)
    # Scores with many equals: the first of them wins, as in a stable sort.
    return from_centers(centers), random.integers(0, 40, n) / 40, random.integers(0, 3, n)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 1000), st.floats(0, 1), st.booleans())
def test_suppression_is_torchvisions_definition(n: int, seed: int, iou: float, aware: bool) -> None:
    corners, scores, numbers = boxes(n, seed)
    chosen = numbers if aware else None
    assert suppress(corners, scores, chosen, iou, n + 1).tolist() == plain_suppress(corners, scores, chosen, iou)


def test_only_the_best_are_kept() -> None:
    corners, scores, _ = boxes(300, 0)
    every = plain_suppress(corners, scores, None, 0.5)
    assert suppress(corners, scores, None, 0.5, 7).tolist() == every[:7]


def test_overlaps_of_boxes_without_area_are_none() -> None:
    corners = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5]], np.float64)
    assert overlaps(corners, corners) == pytest.approx(np.array([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]]))
    assert areas(corners).tolist() == [4, 4, 0]


def test_pairs_are_made_from_the_best_fit_down_and_none_twice() -> None:
    fits = np.array([[0.9, 0.8, 0.0], [0.95, 0.7, 0.0], [0.0, 0.6, 0.4]])
    assert np.argwhere(pair(fits, 0.5)).tolist() == [[0, 1], [1, 0]]
    assert np.argwhere(pair(fits, 0.3)).tolist() == [[0, 1], [1, 0], [2, 2]]
    assert pair(np.zeros((0, 3)), 0.5).shape == (0, 3)


def test_boxes_and_points_return_to_the_picture_and_end_at_its_sides() -> None:
    frame = Frame(100, 200, 64, 64, scale_x=0.32, scale_y=0.32, offset_x=0, offset_y=16)
    assert to_picture(np.array([[0.0, 16.0, 64.0, 48.0], [-5, 0, 99, 99]]), frame).tolist() == [[0, 0, 200, 100]] * 2
    assert points_to_picture(np.array([[[32.0, 32.0, 0.5]]]), frame).tolist() == [[[100, 50, 0.5]]]


def test_8400_candidates_take_less_than_five_milliseconds() -> None:
    random = np.random.default_rng(0)
    outputs = np.zeros((1, 84, 8400), np.float32)
    outputs[0, :2], outputs[0, 2:4] = random.uniform(0, 640, (2, 8400)), random.uniform(5, 200, (2, 8400))
    outputs[0, 4:] = random.uniform(0, 1, (80, 8400)) ** 200  # about 2400 above the threshold
    task, frame = Task("object-detection", "yolo"), Frame(640, 640, 640, 640)
    answer(task, {"output0": outputs}, frame)
    times = []
    for _ in range(9):
        begin = time.process_time_ns()
        answer(task, {"output0": outputs}, frame)
        times.append(time.process_time_ns() - begin)
    assert min(times) < 5e6


def test_a_box_without_an_area_is_the_same_as_itself() -> None:
    boxes = np.array([[0, 0, 10, 0], [0, 0, 10, 10], [5, 0, 15, 10]], float)
    assert likeness(boxes, boxes).tolist() == [[1, 0, 0], [0, 1, pytest.approx(1 / 3)], [0, pytest.approx(1 / 3), 1]]
