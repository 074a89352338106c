"""image-classification: the best classes of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Answer, Classes
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.pictures import prepare_picture

_MOST = 1000


@dataclass(frozen=True)
class Settings:
    """``top`` is how many classes are shown; ``activation`` is what makes probabilities of the first output.

    "auto" is softmax, unless the scores are probabilities already. ``final`` says that the model chooses itself: its
    outputs are ``scores`` and ``classes``, best first.
    """

    top: int = 5
    activation: Literal["auto", "softmax", "sigmoid", "none"] = "auto"
    final: bool = False


def probabilities(scores: Array, activation: str) -> Array:
    """Return scores [classes] as what an activation makes of them, float64.

    One score alone is that of the second of two classes, as metrics read it: a probability where it is in 0 to 1, else
    a logit.
    """
    values = np.asarray(scores, np.float64).ravel()
    if values.size == 1:
        second = values if 0 <= values[0] <= 1 and activation in ("auto", "none") else _sigmoid(values)
        return np.concatenate([1 - second, second])
    if activation == "auto":
        are = values.size > 0 and values.min() >= 0 and abs(values.sum() - 1) < 0.02
        activation = "none" if are else "softmax"
    if activation == "none":
        return values
    if activation == "sigmoid":
        return _sigmoid(values)
    powers = np.exp(values - values.max(initial=-np.inf))
    return np.asarray(powers / powers.sum())


def _sigmoid(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values)))


def class_scores(outputs: Mapping[str, Array]) -> Array:
    """Return the first output as scores [classes] of one thing. Raises ``DataError`` where it has none."""
    name, scores = next(iter(outputs.items()))
    values = np.asarray(scores)
    if values.dtype.kind not in "fiu" or not values.size or (values.ndim < 2 and values.size == 1):
        raise DataError(
            f"the model's first output {name!r} is not class scores: {values.dtype.name} {list(values.shape)}",
            hint="export it with the scores [batch, classes] as its first output, or use --task tensors",
        )
    return values


def best(values: Array, names: tuple[str, ...], top: int) -> Classes:
    """Return the ``top`` highest of values [classes], best first; of equal ones the lower class first."""
    chosen = np.argsort(-values, kind="stable")[:top]
    known = tuple(names[i] if i < len(names) else "" for i in chosen)
    return Classes(tuple(int(i) for i in chosen), known, tuple(float(values[i]) for i in chosen))


def _answer(task: Task, outputs: Mapping[str, Array], _frame: Frame, _measuring: bool) -> Answer:
    settings = read_settings(Settings, task.settings)
    if settings.final:
        return _chosen(outputs, task.classes, settings.top)
    values = probabilities(class_scores(outputs), settings.activation)
    return best(values, task.classes, settings.top)


def _chosen(outputs: Mapping[str, Array], names: tuple[str, ...], top: int) -> Classes:
    """Return the classes that a model itself chose. Raises ``DataError`` for other outputs."""
    if not {"scores", "classes"} <= outputs.keys() or outputs["scores"].size != outputs["classes"].size:
        raise DataError("the model's outputs are not scores and classes, best first", hint="remove final of the task")
    numbers = tuple(int(number) for number in outputs["classes"].ravel()[:top])
    scores = tuple(float(score) for score in outputs["scores"].ravel()[:top])
    return Classes(numbers, tuple(names[n] if 0 <= n < len(names) else "" for n in numbers), scores)


def _check(task: Task) -> None:
    no_more(task)
    settings = read_settings(Settings, task.settings)
    if not 1 <= settings.top <= _MOST:
        raise ConfigError(f"top = {settings.top}", hint=f"write 1 to {_MOST}")


TASK = TaskKind("the classes of a picture", "a picture", prepare_picture, _answer, _check, ("top1", "top5"))
