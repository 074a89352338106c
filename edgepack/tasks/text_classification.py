"""text-classification: the classes of a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgepack.errors import ConfigError
from edgepack.specs.answer import Answer
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.image_classification import best, class_scores, probabilities
from edgepack.tasks.texts import check_text, prepare_text, tokenizer_files

# What can be measured of class scores, whatever they are of.
METRICS = ("top1", "top5", "f1", "f1-micro", "precision", "recall", "auroc", "average-precision")


@dataclass(frozen=True)
class Settings:
    """``top`` is how many classes are shown; ``activation`` makes probabilities of the first output, as of pictures.

    ``threshold`` is what precision and recall are measured at; with it only the classes at or above it are shown.
    """

    top: int = 3
    activation: Literal["auto", "softmax", "sigmoid", "none"] = "auto"
    threshold: float = 0.0


def answer_classes(task: Task, outputs: Mapping[str, Array], _frame: Frame, measuring: bool) -> Answer:
    """Return the best classes of the first output's scores; names only where there is one for each."""
    settings = read_settings(Settings, task.settings)
    values = probabilities(class_scores(outputs), settings.activation)
    top = settings.top if measuring else min(settings.top, max(1, int((values >= settings.threshold).sum())))
    return best(values, task.classes if len(task.classes) == len(values) else (), top)


def check_classes(task: Task) -> None:
    """Raise ``ConfigError`` for settings that cannot be meant."""
    no_more(task, input=True)
    settings = read_settings(Settings, task.settings)
    if not 1 <= settings.top <= 1000:
        raise ConfigError(f"top = {settings.top}", hint="write 1 to 1000")
    if not 0 <= settings.threshold <= 1:
        raise ConfigError(f"threshold = {settings.threshold:g}", hint="write a probability, 0 to 1")


def _check(task: Task) -> None:
    check_classes(task)
    check_text(task)


TASK = TaskKind(
    "the classes of a sentence",
    "a sentence",
    prepare_text,
    answer_classes,
    _check,
    METRICS,
    files=tokenizer_files,
    words=True,
)
