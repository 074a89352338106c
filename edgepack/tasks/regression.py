"""regression: numbers that a model predicts of a thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import ConfigError
from edgepack.specs.answer import Answer
from edgepack.specs.signal_answers import Numbers
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.things import check_things, prepare_thing


@dataclass(frozen=True)
class Settings:
    """The first output times ``scale`` plus ``offset``, in ``unit``; ``classes`` of the task name its numbers.

    Metrics are of the output as it is.
    """

    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0


def _answer(task: Task, outputs: Mapping[str, Array], _frame: Frame, _measuring: bool) -> Answer:
    settings = read_settings(Settings, task.settings)
    values = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1) * settings.scale + settings.offset
    return Numbers(tuple(values.tolist()), task.classes, settings.unit)


def _check(task: Task) -> None:
    no_more(task, input=True)
    if read_settings(Settings, task.settings).scale == 0:
        raise ConfigError("scale = 0", hint="write another number, or leave it out")
    check_things(task)


TASK = TaskKind(
    "predicted numbers", "a row of numbers, a picture or a sound", prepare_thing, _answer, _check,
    ("mae", "rmse", "spearman"),
)  # fmt: skip
