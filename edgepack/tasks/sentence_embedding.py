"""sentence-embedding: a vector that stands for a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.errors import DataError
from edgepack.specs.answer import Answer
from edgepack.specs.signal_answers import Vector
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.texts import check_text, prepare_text, tokenizer_files


@dataclass(frozen=True)
class Settings:
    """``pooling`` makes one vector of those of the tokens: their mean, filled places left out, or that of the first.

    ``output`` is the name of the model's output, by default its first. One that is a vector already is taken as it is.
    ``normalize`` makes its length 1.
    """

    pooling: Literal["mean", "first"] = "mean"
    normalize: bool = True
    output: str = ""


def pool(tokens: Array, count: int, *, left: bool, pooling: str) -> Array:
    """Return one vector [size] of [length, size], of which ``count`` are tokens, the others filled on one side."""
    kept = tokens[len(tokens) - count :] if left else tokens[:count]
    return np.asarray(kept[0] if pooling == "first" else kept.mean(axis=0))


def embed(task: Task, outputs: Mapping[str, Array], frame: Frame) -> Vector:
    """Return the vector in outputs of one sample. Raises ``DataError`` for outputs that hold none."""
    settings = read_settings(Settings, task.settings)
    if settings.output and settings.output not in outputs:
        raise DataError(
            f"the model has no output {settings.output!r}; it has {', '.join(outputs)}", hint="correct output in [task]"
        )
    values = np.asarray(outputs[settings.output] if settings.output else next(iter(outputs.values())), np.float64)
    if values.ndim == 3 and len(values) == 1:
        if not frame.places:
            raise DataError(
                "the model gives a vector for each token, and it is not known how many tokens are not padding",
                hint="give texts and a tokenizer instead of arrays, or export the model with its pooling",
            )
        count = min(len(frame.places), values.shape[1])
        values = pool(values[0], count, left=frame.left, pooling=settings.pooling)
    elif values.size != values.shape[-1]:
        raise DataError(f"an output {list(values.shape)} is not a vector", hint="name the output in [task.settings]")
    values = values.reshape(-1)
    length = float(np.linalg.norm(values))
    return Vector((values / length if settings.normalize and length > 0 else values).astype(np.float32))


def _answer(task: Task, outputs: Mapping[str, Array], frame: Frame, _measuring: bool) -> Answer:
    return embed(task, outputs, frame)


def _check(task: Task) -> None:
    no_more(task, input=True)
    read_settings(Settings, task.settings)
    check_text(task)


TASK = TaskKind(
    "a vector of a sentence", "a sentence", prepare_text, _answer, _check,
    ("recall@1", "recall@5", "recall@10", "nearest-centre"), files=tokenizer_files, words=True,
)  # fmt: skip
