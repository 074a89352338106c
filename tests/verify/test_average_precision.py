"""Average precision and recall equal to pycocotools' own accumulation, and resampled as if pictures were repeated."""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgepack.specs.answer import Boxes
from edgepack.verify.average_precision import THRESHOLDS, find_matches, mean_over_classes
from edgepack.verify.resampling import paired_interval


def scene(pictures: int, seed: int, classes: int = 4, noise: int = 12) -> tuple[list[Boxes], list[Boxes]]:
    """Labels and answers: the labels moved a little, some missed, some of another class, and noise."""
    random = np.random.default_rng(seed)
    truths, answers = [], []
    for _ in range(pictures):
        n = int(random.integers(0, 6))
        low = random.uniform(0, 300, (n, 2))
        corners = np.concatenate([low, low + random.uniform(10, 120, (n, 2))], axis=1)
        numbers = random.integers(0, classes, n)
        crowd = random.random(n) < 0.1
        truths.append(Boxes(corners, np.ones(n), numbers, 480, 640, crowd=crowd))
        kept = random.random(n) < 0.8
        moved = corners[kept] + random.normal(0, 6, (kept.sum(), 4))
        low = random.uniform(0, 300, (noise, 2))
        others = np.concatenate([low, low + random.uniform(10, 120, (noise, 2))], axis=1)
        found = np.concatenate([moved, others])
        labels = np.concatenate([numbers[kept], random.integers(0, classes, noise)])
        labels[random.random(len(found)) < 0.1] = 0
        scores = np.concatenate([random.uniform(0.2, 1, kept.sum()), random.uniform(0, 0.7, noise)])
        answers.append(Boxes(found, scores.round(2), labels, 480, 640))
    return truths, answers


def by_pycocotools(truths: list[Boxes], answers: list[Boxes]) -> tuple[float, float, float]:
    """AP, AP50 and AR of COCOeval as everybody runs it, the boxes written by hand."""

    def dataset(pictures: list[Boxes]) -> COCO:
        found = COCO()
        rows = [
            {"id": 1, "image_id": i, "category_id": int(b.numbers[j]) + 1, "score": float(b.scores[j]),
             "bbox": [*b.corners[j, :2], *(b.corners[j, 2:] - b.corners[j, :2])],
             "area": float(np.prod(b.corners[j, 2:] - b.corners[j, :2])),
             "iscrowd": int(b.crowd is not None and b.crowd[j])}
            for i, b in enumerate(pictures, 1) for j in range(len(b))
        ]  # fmt: skip
        for number, row in enumerate(rows, 1):
            row["id"] = number
        images = [{"id": i} for i in range(1, len(pictures) + 1)]
        categories = [{"id": n + 1} for n in sorted({int(n) for b in truths for n in b.numbers})]
        found.dataset = {"images": images, "annotations": rows, "categories": categories}
        found.createIndex()
        return found

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(truths), dataset(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[1], evaluation.stats[8]


def figures(truths: list[Boxes], answers: list[Boxes], weights: np.ndarray) -> tuple[float, float, float]:
    found = [one.without_end() for one in find_matches(truths, answers, "bbox", 100)]
    precisions = [one.average_precision(weights) for one in found]
    return (
        mean_over_classes(iter(precisions), slice(None)),
        mean_over_classes(iter(precisions), slice(0, 1)),
        mean_over_classes((one.recall(weights) for one in found), slice(None)),
    )


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocotools(seed: int) -> None:
    truths, answers = scene(40, seed)
    assert figures(truths, answers, np.ones(40)) == pytest.approx(by_pycocotools(truths, answers), abs=1e-9)


def test_nothing_found_and_nothing_but_noise() -> None:
    truths, answers = scene(20, 0)
    nothing = [Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 480, 640)] * 20
    assert figures(truths, nothing, np.ones(20)) == (0, 0, 0)
    assert figures(truths, truths, np.ones(20))[0] == pytest.approx(1)
    assert np.isnan(figures(nothing, answers, np.ones(20))[0])


def test_a_weight_of_two_is_the_picture_twice() -> None:
    truths, answers = scene(30, 3)
    weights = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30))
    chosen = np.repeat(np.arange(30), weights)
    repeated = by_pycocotools([truths[i] for i in chosen], [answers[i] for i in chosen])
    assert figures(truths, answers, weights.astype(float)) == pytest.approx(repeated, abs=2e-3)


def test_points_are_compared_by_their_similarity() -> None:
    random = np.random.default_rng(0)
    truths, answers = [], []
    for _ in range(10):
        places = random.uniform(0, 100, (1, 17, 2))
        points = np.concatenate([places, np.full((1, 17, 1), 2.0)], axis=2)
        corners = np.array([[0.0, 0.0, 100.0, 100.0]])
        truths.append(Boxes(corners, np.ones(1), np.zeros(1, int), 100, 100, points=points))
        answers.append(Boxes(corners, np.ones(1), np.zeros(1, int), 100, 100, points=points + np.array([2.0, 0, 0])))
    (found,) = find_matches(truths, answers, "keypoints", 20)
    near = found.average_precision(np.ones(10))
    assert near is not None
    # Moved by 2 pixels in an area of 1e4: exp(-4 / (2 * 1e4 * (2 sigma)^2)), averaged over 17 points.
    from edgepack.verify.average_precision import COCO_SIGMAS

    similarity = np.mean([np.exp(-4 / (2 * 1e4 * (2 * s) ** 2)) for s in COCO_SIGMAS])
    assert near.round(3).tolist() == (similarity >= THRESHOLDS).astype(float).tolist()


@pytest.mark.slow
@pytest.mark.long
def test_intervals_of_a_thousand_pictures_take_less_than_a_minute() -> None:
    truths, answers = scene(1000, 0, classes=80, noise=90)
    begin = time.process_time()
    found = [one.without_end() for one in find_matches(truths, answers, "bbox", 100)]

    def figure(weights: np.ndarray) -> float:
        return mean_over_classes((one.average_precision(weights) for one in found), slice(None))

    paired_interval(figure, figure, 1000, 0)
    assert time.process_time() - begin < 60
