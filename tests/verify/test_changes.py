"""Which answers changed, on outputs of which it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.data.samples import find_samples
from edgepack.specs.changes import ClassBoxes, Confusion
from edgepack.specs.data import SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task
from edgepack.verify.changes import MOST_EXAMPLES, find_changes
from edgepack.verify.outputs import OutputReader, OutputWriter


def reader(folder: Path, outputs: list[dict[str, np.ndarray]]) -> OutputReader:
    folder.mkdir()
    with OutputWriter(folder, tuple(outputs[0])) as writer:
        for one in outputs:
            writer.add(one)
        return OutputReader(writer.finish())


def samples(folder: Path, count: int, task: Task | None, labels: list[int] | None = None) -> SampleSet:
    arrays = {"x": np.arange(count * 3, dtype=np.float32).reshape(count, 3)}
    if labels is not None:
        arrays["labels"] = np.array(labels)
    np.savez(folder / "samples.npz", **arrays)
    return find_samples(str(folder / "samples.npz"), (TensorSpec("x", "float32", ("N", 3)),), None, task=task)


def scores(*rows: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"y": np.array([row], np.float32)} for row in rows]


@pytest.mark.parametrize("labelled", [True, False])
def test_classes(tmp_path: Path, labelled: bool) -> None:
    before = scores([0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7])
    after = scores([0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [0.1, 0.2, 0.7])
    task = Task("image-classification", classes=("cat", "dog", "hen"))
    asked = samples(tmp_path, 4, task, [0, 1, 0, 1] if labelled else None)
    found = find_changes(reader(tmp_path / "a", before), reader(tmp_path / "b", after), asked)
    assert found is not None
    assert (found.samples, found.changed, found.truth) == (4, 2, "labels" if labelled else "fp32")
    grew = {Confusion("cat", "dog", 0, 1), Confusion("dog", "cat", 0, 1)}
    assert set(found.confusions) == grew  # what fp32 confuses as often is not among them
    assert [one.position for one in found.examples] == [1, 2]  # the surer fp32 was, the sooner it is shown
    assert found.examples[0].fp32 == ("dog 0.800, ahead by 0.700",)
    assert found.examples[0].value == ("cat 0.600, ahead by 0.300",)


def boxes(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    values = np.zeros((1, 5, 6), np.float32)
    values[0, : len(rows)] = rows
    return {"y": values}


def test_boxes(tmp_path: Path) -> None:
    one, other = (0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.3, 1)
    task = Task("object-detection", "yolo-final", settings={"score": 0.25}, classes=("cat", "dog"))
    before = [boxes(one, other), boxes(one), boxes(one)]
    after = [boxes(one, (20, 20, 40, 40, 0.24, 1)), boxes((1, 0, 10, 9, 0.7, 0)), boxes((0, 0, 10, 10, 0.9, 1))]
    asked = samples(tmp_path, 3, task)
    found = find_changes(reader(tmp_path / "a", before), reader(tmp_path / "b", after), asked)
    assert found is not None
    assert (found.samples, found.changed) == (3, 2)
    assert set(found.boxes) == {ClassBoxes("dog", 1, 1), ClassBoxes("cat", 1, 0)}
    assert found.examples[0].position == 2  # two things changed there
    assert found.examples[1].fp32 == ("dog 0.30",)  # what the other does not have
    assert found.examples[1].value == ("no other box",)
    assert [box.name for box in found.examples[1].fp32_boxes] == ["cat", "dog"]
    assert [box.name for box in found.examples[1].value_boxes] == ["cat"]


def test_examples_are_few(tmp_path: Path) -> None:
    count = MOST_EXAMPLES + 5
    asked = samples(tmp_path, count, None)
    pair = (reader(tmp_path / name, scores(*[row] * count)) for name, row in (("a", [0.9, 0.1]), ("b", [0.1, 0.9])))
    found = find_changes(*pair, asked, scores=True)
    assert found is not None
    assert (found.changed, len(found.examples)) == (count, MOST_EXAMPLES)


@pytest.mark.parametrize("task", [None, Task("tensors"), Task("regression"), Task("voice-activity")])
def test_amounts_are_not_told(tmp_path: Path, task: Task | None) -> None:
    asked = samples(tmp_path, 1, task)
    pair = [reader(tmp_path / name, scores([1.0, 2.0])) for name in ("a", "b")]
    assert find_changes(*pair, asked) is None


def test_outputs_that_the_task_does_not_read_are_not_told(tmp_path: Path) -> None:
    asked = samples(tmp_path, 1, Task("object-detection", "yolo"))
    pair = [reader(tmp_path / name, scores([1.0, 2.0])) for name in ("a", "b")]
    assert find_changes(*pair, asked) is None
