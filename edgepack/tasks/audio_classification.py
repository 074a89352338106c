"""audio-classification: the classes of a sound."""

from __future__ import annotations

from edgepack.specs.task import Task
from edgepack.tasks import TaskKind
from edgepack.tasks.sounds import check_sound_task, prepare_sound
from edgepack.tasks.text_classification import METRICS, answer_classes, check_classes


def _check(task: Task) -> None:
    check_classes(task)
    check_sound_task(task)


TASK = TaskKind("the classes of a sound", "a sound", prepare_sound, answer_classes, _check, METRICS)
