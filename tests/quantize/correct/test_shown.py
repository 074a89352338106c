"""Which boxes of fp32 an int8 model shows too, counted where there are enough of them to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgepack.quantize.correct.shown import find_shown
from edgepack.specs.task import Frame, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

DETECTION = Task("object-detection", "yolo-final", settings={"score": 0.25})
SAMPLES, EACH = 4, 10


def outputs(scores: Sequence[float] = (0.9,) * EACH, moved: float = 0.0, samples: int = SAMPLES) -> Any:
    """Return, for each sample, boxes of one class beside each other, with these scores."""
    left = np.arange(len(scores)) * 20 + moved
    rows = np.stack([left, np.zeros_like(left), left + 10, np.full_like(left, 10), scores, np.zeros_like(left)], 1)
    return [{"y": rows[None].astype(np.float32)}] * samples


def frames(samples: int = SAMPLES) -> list[Frame]:
    return [Frame()] * samples


def test_boxes_that_are_shown_again_are_counted() -> None:
    shown = find_shown(DETECTION, frames(), outputs())
    assert shown is not None
    assert shown.share(outputs()) == 1
    assert shown.share(outputs(moved=2)) == 1  # IoU 2/3
    assert shown.share(outputs(moved=6)) == 0
    assert shown.share(outputs((0.9,) * 7 + (0.2,) * 3)) == pytest.approx(0.7)  # found, but not shown


def test_a_sample_that_lost_all_weighs_by_its_boxes() -> None:
    shown = find_shown(DETECTION, frames(), outputs())
    assert shown is not None
    assert shown.share([*outputs(samples=3), *outputs((0.1,) * EACH, samples=1)]) == pytest.approx(0.75)


@pytest.mark.parametrize("task", [None, Task("tensors"), Task("voice-activity"), Task("image-classification")])
def test_other_answers_are_no_boxes(task: Task | None) -> None:
    assert find_shown(task, frames(), [{"y": np.zeros((1, 3), np.float32)}] * SAMPLES) is None


def test_all_boxes_are_counted() -> None:
    shown = find_shown(DETECTION, frames(3), outputs(samples=3))
    assert shown is not None
    assert shown.count == 3 * EACH


def test_outputs_that_the_task_cannot_read_are_no_error() -> None:
    assert find_shown(DETECTION, frames(), [{"y": np.zeros((1, 3), np.float32)}] * SAMPLES) is None
