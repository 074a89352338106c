"""anomaly-score: how unusual a thing is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.answer import Answer
from edgepack.specs.signal_answers import Anomaly
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.things import check_things, prepare_thing


@dataclass(frozen=True)
class Settings:
    """``output`` names the output that is the score, by default the first; above ``threshold`` a thing is unusual."""

    output: str = ""
    threshold: float | None = None


def _answer(task: Task, outputs: Mapping[str, Array], _frame: Frame, _measuring: bool) -> Answer:
    settings = read_settings(Settings, task.settings)
    if settings.output and settings.output not in outputs:
        raise DataError(
            f"the model has no output {settings.output!r}; it has {', '.join(outputs)}", hint="correct output in [task]"
        )
    score = np.asarray(outputs[settings.output] if settings.output else next(iter(outputs.values())), np.float64)
    if score.size != 1:
        raise DataError(
            f"an output {list(score.shape)} is not a score",
            hint="export the model so that it gives one number, as the mean squared error of what it rebuilds",
        )
    return Anomaly(float(score.reshape(-1)[0]), settings.threshold)


def _check(task: Task) -> None:
    no_more(task, input=True)
    read_settings(Settings, task.settings)
    check_things(task)


TASK = TaskKind(
    "how unusual a thing is", "a row of numbers, a picture or a sound", prepare_thing, _answer, _check,
    ("auroc", "average-precision"),
)  # fmt: skip
