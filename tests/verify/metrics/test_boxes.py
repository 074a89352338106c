"""map, map50, mar and oks of two models by the same labels, or by fp32's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shape_data import NAMES, draw, write_yolo

from edgepack.data.samples import find_samples, read_any_labels
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.run import Accuracy
from edgepack.specs.task import Task
from edgepack.verify.metrics import METRICS, Compared
from edgepack.verify.outputs import OutputReader, OutputWriter

MADE = Preprocessing(resize=(64, 64), letterbox=True)
TASK = Task("object-detection", "yolo-final", classes=NAMES)


def outputs(folder: Path, moved: float, missed: int = 0, classes: tuple[int, ...] = (0, 1, 2)) -> OutputReader:
    """A model's answers to the shapes: where they are in the input, moved by some of its pixels."""
    across, down, below = 64 / 120, 43 / 80, np.array([0, 10, 0, 10])  # 80 x 120 pixels become 43 x 64, with 10 above
    with OutputWriter(folder, ("boxes",)) as writer:
        for seed in range(6):
            rows = np.zeros((1, 20, 6), np.float32)
            for i, (kind, left, top, right, bottom) in enumerate(draw(seed)[1][missed:]):
                sides = np.array([left, top, right, bottom]) * [across, down, across, down] + below
                rows[0, i] = [*(sides + moved), 0.9 - 0.1 * i, classes[kind]]
            writer.add({"boxes": rows})
        return OutputReader(writer.finish())


def compared(tmp_path: Path, metric: str, found: OutputReader, *, labelled: bool = True, **fp32: Any) -> Compared:
    root = tmp_path / "yolo"
    samples = find_samples(str(root if root.exists() else write_yolo(root)), None, MADE, task=TASK)
    labels = read_any_labels(samples) if labelled else None
    expected = outputs(tmp_path / "fp32", **{"moved": 0.0, **fp32})
    return Compared(metric, None, expected, found, ("boxes",), labels, 0, samples)  # type: ignore[arg-type]


def measure(both: Compared) -> Accuracy:
    result = METRICS.get(both.metric).measure(both)
    assert isinstance(result, Accuracy)
    return result


@pytest.mark.parametrize("metric", ["map", "map50", "mar"])
def test_right_boxes_have_all_and_moved_ones_less(metric: str, tmp_path: Path) -> None:
    result = measure(compared(tmp_path, metric, outputs(tmp_path / "int8", moved=1.0)))
    assert result.fp32 == pytest.approx(1)
    assert (result.n, result.truth) == (6, "labels")
    assert result.drop == pytest.approx(result.fp32 - result.value)
    assert result.ci95[0] <= result.drop <= result.ci95[1]
    assert result.value == pytest.approx(1) if metric == "map50" else 0.1 < result.value < 0.95


def test_without_labels_the_answers_of_fp32_stand_for_them(tmp_path: Path) -> None:
    result = measure(compared(tmp_path, "map50", outputs(tmp_path / "int8", 0.0, missed=1), labelled=False))
    assert (result.fp32, result.truth) == (pytest.approx(1), "fp32")
    assert result.value < 0.8


def test_labels_in_another_order_are_seen(tmp_path: Path) -> None:
    both = compared(tmp_path, "map50", outputs(tmp_path / "int8", 0.0), classes=(1, 2, 0))
    result = METRICS.get("map50").measure(both)
    assert isinstance(result, Accuracy)
    doubt = METRICS.get("map50").doubt
    assert doubt is not None
    assert "in another order" in str(doubt(both, result))
    assert doubt(both, measure(compared(tmp_path, "map50", both.found))) is None


def test_nothing_labelled(tmp_path: Path) -> None:
    both = compared(tmp_path, "map", outputs(tmp_path / "int8", 0.0))
    empty = Compared(**{**vars(both), "labels": ()})
    assert "nothing is labelled" in str(METRICS.get("map").measure(empty))


def test_labels_that_are_no_boxes_are_refused(tmp_path: Path) -> None:
    both = compared(tmp_path, "map", outputs(tmp_path / "int8", 0.0))
    with pytest.raises(DataError, match="needs labels of boxes"):
        METRICS.get("map").measure(Compared(**{**vars(both), "labels": np.arange(6)}))


def test_classes_are_measured_by_themselves_the_most_changed_first(tmp_path: Path) -> None:
    """A model that calls squares circles: they are lost, and circles are found among wrong ones."""
    result = measure(compared(tmp_path, "map50", outputs(tmp_path / "int8", 0.0, classes=(0, 0, 2))))
    assert result.classes[0].name == "square"
    figures = {one.name: (one.things, round(one.fp32, 3), round(one.value, 3)) for one in result.classes}
    kinds = [thing[0] for seed in range(6) for thing in draw(seed)[1]]
    assert figures["square"] == (kinds.count(1), 1.0, 0.0)
    assert figures["cross"] == (kinds.count(2), 1.0, 1.0)
    assert figures["circle"][2] < 1
    assert result.value == pytest.approx(np.mean([one.value for one in result.classes]))
