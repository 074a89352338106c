"""How many of fp32's answers are not given again, over samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from shape_data import NAMES, draw, write_yolo

from edgepack.data.samples import find_samples
from edgepack.specs.data import Preprocessing
from edgepack.specs.run import ChangedAnswers
from edgepack.specs.task import Task
from edgepack.verify.change import measure_change
from edgepack.verify.changes import find_changes
from edgepack.verify.closeness import Closeness

CLOSE = Closeness(40, 30.0, None, 0.99, None, 0.95, None)
NO_SCORES = Closeness(40, 30.0, None, 0.99, None, None, None)


def reader(*samples: Any) -> Any:
    return SimpleNamespace(sample=lambda i: {"y": np.asarray(samples[i], np.float32)})


def arrays(tmp_path: Path, task: Task | None, n: int) -> Any:
    np.savez(tmp_path / "x.npz", x=np.zeros((n, 3), np.float32))
    return find_samples(str(tmp_path / "x.npz"), None, None, task=task)


def measured(*arguments: Any) -> ChangedAnswers:
    found, _ = measure_change(*arguments, 0)
    assert isinstance(found, ChangedAnswers)
    return found


def detections(moved: float = 0.0, score: float = 0.9, missed: int = 0) -> Any:
    """Return the answers to six pictures of shapes, by their places in the input."""
    across, down, below = 64 / 120, 43 / 80, np.array([0, 10, 0, 10])  # 80 x 120 pixels become 43 x 64, with 10 above
    found = []
    for seed in range(6):
        rows = np.zeros((1, 20, 6))
        for i, (kind, left, top, right, bottom) in enumerate(draw(seed)[1][missed:]):
            sides = np.array([left, top, right, bottom]) * [across, down, across, down] + below
            rows[0, i] = [*(sides + moved), score, kind]
        found.append(rows)
    return reader(*found)


def shapes(tmp_path: Path) -> Any:
    task = Task("object-detection", "yolo-final", classes=NAMES)
    return find_samples(
        str(write_yolo(tmp_path / "yolo")), None, Preprocessing(resize=(64, 64), letterbox=True), task=task
    )


def test_boxes_that_are_there_again_did_not_change(tmp_path: Path) -> None:
    samples = shapes(tmp_path)
    total = sum(len(draw(seed)[1]) for seed in range(6))
    found = measured(samples, detections(), detections(moved=1.0), NO_SCORES)
    assert (found.answers, found.n, found.changed, found.samples) == ("boxes", total, 0, 6)
    assert (found.share, found.ci95[0]) == (0.0, 0.0)
    assert 0.2 < found.ci95[1] < 0.5  # six pictures without a loss prove little
    fewer = measured(samples, detections(), detections(missed=1), NO_SCORES)
    assert (fewer.changed, fewer.unsure) == (6, 0)
    assert fewer.ci95[0] <= fewer.share <= fewer.ci95[1]


def test_boxes_below_the_score_that_shows_them_are_unsure(tmp_path: Path) -> None:
    found = measured(shapes(tmp_path), detections(), detections(score=0.2), NO_SCORES)
    assert (found.share, found.unsure) == (1.0, found.n)


def test_no_answer_of_fp32_cannot_change(tmp_path: Path) -> None:
    found, _ = measure_change(shapes(tmp_path), detections(score=0.1), detections(), NO_SCORES, 0)
    assert found == "fp32 gives no answer: there are no boxes in 6 samples"


def test_without_a_task_the_highest_score_is_the_answer(tmp_path: Path) -> None:
    samples = arrays(tmp_path, None, 40)
    found = measured(samples, None, None, CLOSE)
    assert (found.answers, found.n, found.changed) == ("classes", 40, 2)
    assert "no task says" in str(measure_change(samples, None, None, NO_SCORES, 0)[0])  # type: ignore[arg-type]


def test_classes_of_a_task_are_compared(tmp_path: Path) -> None:
    samples = arrays(tmp_path, Task("image-classification"), 2)
    found = measured(samples, reader([[1, 2]], [[1, 2]]), reader([[1, 3]], [[2, 1]]), NO_SCORES)
    assert (found.answers, found.n, found.changed) == ("classes", 2, 1)
    assert found.ci95[0] < 0.5 < found.ci95[1]


def test_a_vector_keeps_its_nearest(tmp_path: Path) -> None:
    task = Task("sentence-embedding")
    first = [[1.0, 0.0]], [[0.9, 0.1]], [[0.0, 1.0]], [[0.1, 0.9]]
    other = [[1.0, 0.0]], [[0.1, 0.9]], [[0.0, 1.0]], [[0.0, 0.9]]
    samples = arrays(tmp_path, task, 4)
    same = measured(samples, reader(*first), reader(*first), NO_SCORES)
    found = measured(samples, reader(*first), reader(*other), NO_SCORES)
    assert (same.answers, same.n, same.changed) == ("nearest vectors", 4, 0)
    assert found.changed == 1  # the second: its nearest was the first
    few, _ = measure_change(arrays(tmp_path, task, 2), reader(*first), reader(*first), NO_SCORES, 0)
    assert "give 3 samples or more" in str(few)


@pytest.mark.parametrize(
    ("kind", "why"),
    [("regression", "numbers"), ("voice-activity", "not made of one sample")],
)
def test_what_has_no_answers_to_compare_says_so(kind: str, why: str, tmp_path: Path) -> None:
    samples = arrays(tmp_path, Task(kind), 1)
    assert why in str(measure_change(samples, reader([[1.0]]), reader([[1.0]]), NO_SCORES, 0)[0])


def test_outputs_that_do_not_fit_the_task_say_so(tmp_path: Path) -> None:
    samples = arrays(tmp_path, Task("object-detection", "fastestdet"), 1)
    found, _ = measure_change(samples, reader([[1.0]]), reader([[1.0]]), NO_SCORES, 0)
    assert "[1, 5 + classes, h, w]" in str(found)


def test_the_examples_come_of_the_same_reading(tmp_path: Path) -> None:
    """Each sample's outputs are read once of fp32 and once of the other; the examples are those of ``find_changes``."""
    reads: list[tuple[str, int]] = []

    def told(name: str, outputs: Any) -> Any:
        return SimpleNamespace(sample=lambda i: reads.append((name, i)) or outputs.sample(i))

    samples, expected, found = shapes(tmp_path), detections(), detections(missed=1)
    change, changes = measure_change(samples, told("fp32", expected), told("int8", found), NO_SCORES, 0, examples=True)
    assert isinstance(change, ChangedAnswers)
    assert sorted(reads) == [(name, i) for name in ("fp32", "int8") for i in range(6)]
    assert changes is not None
    assert changes == find_changes(expected, found, samples)
    assert (changes.samples, changes.changed, change.changed) == (6, 6, 6)


def test_samples_with_other_names_of_classes_leave_the_examples_out(tmp_path: Path) -> None:
    task = Task("object-detection", "fastestdet")
    samples = dataclasses.replace(arrays(tmp_path, task, 2), classes=("a", "b", "c"))
    outputs = reader(*np.full((2, 1, 5 + 2, 2, 2), 0.9))
    change, changes = measure_change(samples, outputs, outputs, NO_SCORES, 0, examples=True)
    assert isinstance(change, ChangedAnswers)
    assert changes is None
