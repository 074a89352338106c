"""The answers and labels that metrics compare."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgepack.data.samples import find_samples
from edgepack.errors import ConfigError
from edgepack.specs.task import Task
from edgepack.verify.answers import answers, check_metric_fits, truths

CLASSES = Task("image-classification", classes=("cat", "dog"))


def compared(tmp_path: Path, task: Task | None, labels: Any = None) -> Any:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), np.float32))
    outputs = SimpleNamespace(sample=lambda i: {"scores": np.array([[i, 0.5]], np.float32)})
    samples = find_samples(str(tmp_path / "x.npz"), None, None, task=task)
    return SimpleNamespace(metric="m", samples=samples, labels=labels, expected=outputs, found=outputs)


def test_every_sample_has_an_answer_in_order(tmp_path: Path) -> None:
    both = compared(tmp_path, CLASSES)
    assert [found.names[0] for found in answers(both, both.found)] == ["dog", "cat"]


def test_fp32s_answers_stand_for_labels(tmp_path: Path) -> None:
    assert [found.names[0] for found in truths(compared(tmp_path, CLASSES))] == ["dog", "cat"]
    assert truths(compared(tmp_path, CLASSES, ("a", "b"))) == ("a", "b")


def test_a_metric_of_another_task_is_refused(tmp_path: Path) -> None:
    check_metric_fits("top1", CLASSES)
    with pytest.raises(ConfigError, match="top1 is not a metric of tensors"):
        check_metric_fits("top1", Task("tensors"))
    with pytest.raises(ConfigError, match="top1 needs a task") as caught:
        check_metric_fits("top1", None)
    assert "image-classification" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="needs a task"):
        truths(compared(tmp_path, None))
