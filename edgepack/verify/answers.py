"""The answers that metrics compare: of the fp32 model, of the compiled one, and the labels that they should be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgepack.base.documents import suggestion
from edgepack.data.samples import read_frames
from edgepack.errors import ConfigError
from edgepack.tasks import TASKS, answer

_MOST_CLASSES = 100

if TYPE_CHECKING:
    from edgepack.specs.answer import Answer
    from edgepack.specs.data import SampleSet
    from edgepack.specs.run import ClassFigure
    from edgepack.specs.task import Task
    from edgepack.verify.metrics import Compared
    from edgepack.verify.outputs import OutputReader


def check_metric_fits(metric: str, task: Task | None) -> None:
    """Raise ``ConfigError`` where a metric reads the answers of another task."""
    known = [name for name, kind in TASKS.all() if metric in kind.metrics]
    if task is None:
        raise ConfigError(f"{metric} needs a task", hint=f"add --task {' or '.join(known)}, or a recipe that has one")
    if task.kind not in known:
        own = TASKS.get(task.kind).metrics
        raise ConfigError(f"{metric} is not a metric of {task.kind}", hint=suggestion(metric, own) if own else None)


def answers(compared: Compared, reader: OutputReader) -> Iterator[Answer]:
    """Yield the answer to each sample, of ``compared.expected`` (fp32) or ``compared.found``: all that was found."""
    samples, task = _asked(compared)
    for index, frame in enumerate(read_frames(samples)):
        yield answer(task, reader.sample(index), frame, measuring=True)


def truths(compared: Compared) -> Sequence[Any]:
    """Return what the answers should be: the labels, or fp32's answers, as they are shown, where there are none."""
    if compared.labels is not None:
        found: Sequence[Any] = compared.labels
        return found
    samples, task = _asked(compared)
    return [answer(task, compared.expected.sample(i), frame) for i, frame in enumerate(read_frames(samples))]


def class_name(names: Sequence[str], number: int) -> str:
    """Return the name of a class, or its number where it has none."""
    return names[number] if number < len(names) else f"class {number}"


def most_changed(classes: Sequence[ClassFigure]) -> tuple[ClassFigure, ...]:
    """Return the classes that changed most, at most 100 of them."""
    return tuple(sorted(classes, key=lambda one: -abs(one.fp32 - one.value))[:_MOST_CLASSES])


def truth_of(compared: Compared) -> Literal["labels", "fp32"]:
    """Return what ``truths`` are."""
    return "labels" if compared.labels is not None else "fp32"


def _asked(compared: Compared) -> tuple[SampleSet, Task]:
    samples = compared.samples
    if samples is None or samples.task is None:
        raise ConfigError(f"{compared.metric} needs a task", hint="add --task, or a recipe that has one")
    task = samples.task if samples.task.classes else dataclasses.replace(samples.task, classes=samples.classes)
    return samples, task
