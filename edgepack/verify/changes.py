"""Finds the samples whose answer a compiled model changes: which, how, and what is confused more often."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.data.samples import read_any_labels, read_frames
from edgepack.errors import EdgepackError
from edgepack.specs.answer import Box, Boxes, Classes, Mask
from edgepack.specs.changes import Changed, Changes, ClassBoxes, Confusion
from edgepack.specs.signal_answers import Spans, Transcript
from edgepack.specs.task import Task
from edgepack.tasks import PICTURE_CLASSES, TASKS, answer
from edgepack.verify.answers import class_name
from edgepack.verify.same_answers import Alike, unmatched

if TYPE_CHECKING:
    from edgepack.specs.data import SampleSet
    from edgepack.specs.task import Frame
    from edgepack.verify.outputs import OutputReader

MOST_EXAMPLES = 12
_MOST_CONFUSIONS, _MOST_CLASSES, _MOST_LINES = 8, 12, 8
# Boxes are of one thing from this overlap on; whatever is shown and was not, or the other way round, is a change.
SAME_THING = Alike(margin=0.0, overlap=0.5)
# Borders of areas move with every rounding: so large a share of a picture's pixels is a change.
_LEAST_PIXELS = 0.05


def find_changes(
    expected: OutputReader, found: OutputReader, samples: SampleSet, *, scores: bool = False
) -> Changes | None:
    """Return what changed; None for tasks whose answers are amounts, which all change a little.

    ``scores`` says that the first output is class scores, where no task is named.
    """
    task = samples.task or (Task(PICTURE_CLASSES) if scores else None)
    if task is None or TASKS.get(task.kind).stream is not None:
        return None
    task = with_names(task, samples)
    try:
        finder = ChangesFinder(task, samples)
        for index, frame in enumerate(read_frames(samples)):
            finder.add(
                index, answer(task, expected.sample(index), frame), answer(task, found.sample(index), frame), frame
            )
        return finder.result()
    except EdgepackError:
        return None  # the outputs are not what the task reads: the metric says so


def with_names(task: Task, samples: SampleSet) -> Task:
    """Return a task with the names of classes that the samples have, where it has none itself."""
    return task if task.classes else dataclasses.replace(task, classes=samples.classes)


def _labels(samples: SampleSet) -> Sequence[Any] | None:
    if not samples.labelled:
        return None
    labels = list(read_any_labels(samples))
    return labels if all(np.ndim(one) == 0 and isinstance(one, int | np.integer) for one in labels) else None


@dataclass
class _Counts:
    """What is counted on the way through the samples."""

    fp32: Counter[tuple[int, int]] = field(default_factory=Counter)
    value: Counter[tuple[int, int]] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    gained: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[float, Changed]] = field(default_factory=list)


class ChangesFinder:
    """Takes in the answers to one sample after the other, as they are shown, and counts what changed."""

    def __init__(self, task: Task, samples: SampleSet) -> None:
        self._task, self._labels = task, _labels(samples)
        self._counts, self._samples, self._changed, self._told = _Counts(), 0, 0, True
        asked = task.settings.get("score", 0.25)
        self._least = float(asked) if isinstance(asked, int | float) else 0.25

    def add(self, index: int, before: Any, after: Any, frame: Frame) -> None:
        """Take in fp32's answer to a sample and the other's."""
        self._samples += 1
        counts = self._counts
        by = _by_how_much(before, after, counts, self._least) if self._told else None
        if by is None:
            self._told = False
            return
        if isinstance(before, Classes):
            truth = before.numbers[0] if self._labels is None else int(self._labels[index])
            counts.fp32[truth, before.numbers[0]] += 1
            counts.value[truth, after.numbers[0]] += 1
        if by:
            self._changed += 1
            counts.examples.append((by, _example(index, before, after, frame, self._least)))
            counts.examples.sort(key=lambda one: (-one[0], one[1].position))
            del counts.examples[MOST_EXAMPLES:]

    def result(self) -> Changes | None:
        """Return what changed; None where the answers are of a kind of which that is not said."""
        if not self._told:
            return None
        counts = self._counts
        return Changes(
            self._samples, self._changed, "fp32" if self._labels is None else "labels",
            _confusions(counts, self._task), _boxes(counts), tuple(example for _, example in counts.examples),
        )  # fmt: skip


def _by_how_much(before: Any, after: Any, counts: _Counts, least: float) -> float | None:
    """Return how much an answer changed, 0 where it did not; None for answers of which that is not said."""
    if isinstance(before, Classes):
        return _margin(before) + 1e-9 if before.numbers[:1] != after.numbers[:1] else 0.0
    if isinstance(before, Boxes):
        lost, gained = unmatched(before, after, SAME_THING, least)
        for boxes, rows, tally in ((before, lost, counts.lost), (after, gained, counts.gained)):
            tally.update(class_name(boxes.names, int(boxes.numbers[row])) for row in rows)
        return float(len(lost) + len(gained))
    if isinstance(before, Mask):
        share = float(np.mean(before.labels != after.labels)) if before.labels.size else 0.0
        return share if share >= _LEAST_PIXELS else 0.0
    if isinstance(before, Transcript | Spans):
        return float(before.lines() != after.lines())
    return None


def _margin(answered: Classes) -> float:
    """Return by how much the best class is ahead of the second."""
    return answered.scores[0] - answered.scores[1] if len(answered.scores) > 1 else 0.0


def _example(index: int, before: Any, after: Any, frame: Frame, least: float) -> Changed:
    if not isinstance(before, Boxes):
        return Changed(index, _lines(before), _lines(after), frame.text)
    rows = unmatched(before, after, SAME_THING, least)
    boxes = tuple(before), tuple(after)
    lost, gained = (_only([all_of[row] for row in chosen]) for all_of, chosen in zip(boxes, rows, strict=True))
    return Changed(index, lost, gained, frame.text, *boxes)


def _only(boxes: Sequence[Box]) -> tuple[str, ...]:
    """Return lines for the boxes that the other answer does not have."""
    return _few(tuple(f"{box.name} {box.score:.2f}" for box in boxes)) or ("no other box",)


def _few(lines: tuple[str, ...]) -> tuple[str, ...]:
    more = (f"and {len(lines) - _MOST_LINES} more",) if len(lines) > _MOST_LINES else ()
    return (*lines[:_MOST_LINES], *more)


def _lines(answered: Any) -> tuple[str, ...]:
    if isinstance(answered, Classes):
        name = answered.names[0] or f"class {answered.numbers[0]}"
        return (f"{name} {answered.scores[0]:.3f}, ahead by {_margin(answered):.3f}",)
    return _few(tuple(answered.lines())) or ("nothing",)


def _confusions(counts: _Counts, task: Task) -> tuple[Confusion, ...]:
    """Return the wrong answers that became more frequent."""
    grew = {pair: n - counts.fp32[pair] for pair, n in counts.value.items() if pair[0] != pair[1]}
    worst = sorted((pair for pair, more in grew.items() if more > 0), key=lambda pair: (-grew[pair], pair))
    return tuple(
        Confusion(class_name(task.classes, truth), class_name(task.classes, number), counts.fp32[truth, number],
                  counts.value[truth, number])
        for truth, number in worst[:_MOST_CONFUSIONS]
    )  # fmt: skip


def _boxes(counts: _Counts) -> tuple[ClassBoxes, ...]:
    total = counts.lost + counts.gained
    return tuple(
        ClassBoxes(name, counts.lost[name], counts.gained[name]) for name, _ in total.most_common(_MOST_CLASSES)
    )
