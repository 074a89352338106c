"""tabular-classification: the classes of a row of numbers."""

from __future__ import annotations

from edgepack.specs.task import Task
from edgepack.tasks import TaskKind
from edgepack.tasks.tables import check_columns, prepare_row
from edgepack.tasks.text_classification import METRICS, answer_classes, check_classes


def _check(task: Task) -> None:
    check_classes(task)
    check_columns(task)


TASK = TaskKind("the classes of a row of numbers", "a row of numbers", prepare_row, answer_classes, _check, METRICS)
