"""text-recognition: what stands in a picture of one line of text, by the best path of a CTC output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Answer
from edgepack.specs.signal_answers import Transcript
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.ctc import greedy, spell
from edgepack.tasks.image_classification import probabilities
from edgepack.tasks.pictures import prepare_picture


@dataclass(frozen=True)
class Settings:
    """``blank`` is the class that is not a letter: the first, or the last of the output.

    ``charset`` are the letters of the other classes in order; ``classes`` of the task are taken without it. ``layout``
    is that of the first output: [batch, moments, classes], or moments first. A class more than there are letters is a
    blank between words.
    """

    blank: Literal["first", "last"] = "first"
    charset: str = ""
    layout: Literal["batch-first", "time-first"] = "batch-first"


def read_line(task: Task, scores: Array) -> Transcript:
    """Return the text in scores of one sample. Raises ``DataError`` where they are not [1, moments, classes]."""
    settings = read_settings(Settings, task.settings)
    charset = tuple(settings.charset) or task.classes
    values = np.asarray(scores, np.float64)
    values = values[:, 0] if settings.layout == "time-first" and values.ndim == 3 else values.reshape(values.shape[-2:])
    classes = values.shape[1]
    if classes not in (len(charset) + 1, len(charset) + 2):
        raise DataError(
            f"the output has {classes} classes, and {len(charset)} letters and a blank are {len(charset) + 1}",
            hint="give the charset in the order of the classes, without the blank: charset or classes in [task]",
        )
    blank = 0 if settings.blank == "first" else classes - 1
    numbers, best = greedy(_moments(values), blank)
    return Transcript(spell(numbers, charset, blank), float(np.mean(best)) if best else 0.0)


def _moments(values: Array) -> Array:
    """Return the probabilities of each moment: of logits their softmax."""
    finite = values[np.isfinite(values).all(axis=1)]
    if finite.size and finite.min() >= 0 and np.abs(finite.sum(axis=1) - 1).max() < 0.02:
        return values
    return np.stack([probabilities(row, "softmax") for row in values]) if len(values) else values


def _answer(task: Task, outputs: Mapping[str, Array], _frame: Frame, _measuring: bool) -> Answer:
    return read_line(task, next(iter(outputs.values())))


def _check(task: Task) -> None:
    no_more(task)
    settings = read_settings(Settings, task.settings)
    if settings.charset and task.classes:
        raise ConfigError("both charset and classes are given", hint="keep one of them")


TASK = TaskKind("the text of a line", "a picture of a line of text", prepare_picture, _answer, _check, ("cer", "wer"))
