"""The tasks: how what a user has becomes inputs, and outputs become answers; the same on a device as in a build.

To add a task, add a module with a ``TaskKind`` and a line to ``TASKS``, which nothing else names; an installed package
adds its own by an entry point in the group ``edgepack.tasks``. numpy is all that a task needs, and Pillow where a file
is a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgepack.base import documents
from edgepack.base.extensions import Table
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from edgepack.specs.answer import Answer
    from edgepack.specs.data import Preprocessing
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Frame, Setting, Task
    from edgepack.specs.types import Array

T = TypeVar("T")
Infer = Callable[[Mapping[str, "Array"]], Mapping[str, "Array"]]

# The tasks of models of which nothing is said: those of pictures with class scores, and others.
PICTURE_CLASSES = "image-classification"
TENSORS = "tensors"


@dataclass(frozen=True)
class Making:
    """How a thing becomes inputs: the model's ``inputs``, a recipe's ``preprocessing``, and the task.

    ``read`` returns a file that came with the task in a bundle, by its name; None where there is no bundle.
    """

    task: Task
    inputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None = None
    read: Callable[[str], bytes] | None = None


@dataclass(frozen=True)
class Prepared:
    """The inputs that one thing became, by name with a batch axis of 1, and where it lies in them."""

    feeds: Mapping[str, Array]
    frame: Frame


@dataclass(frozen=True)
class TaskKind:
    """One task.

    ``things`` says in words what it takes ("a picture"). ``prepare`` makes inputs of a path or an array; it raises
    ``DataError``. ``answer`` makes an answer of the outputs for one thing; ``measuring`` asks for all that a metric
    needs, also what is too unsure to be shown. ``check`` raises ``ConfigError`` for settings that cannot be meant.
    ``metrics`` are the names of those that read its answers, the default one first. ``draw`` returns a picture, uint8
    [height, width, 3], with an answer drawn in, where answers are about pictures. ``files`` are those that must travel
    with a bundle, by name; it gets the data that the bundle was made with, which they may lie beside. ``stream`` runs a
    model many times for one thing, and returns what ``answer`` reads. ``words`` says that a str is the thing itself,
    not a path.
    """

    title: str
    things: str
    prepare: Callable[[Any, Making], Prepared]
    answer: Callable[[Task, Mapping[str, Array], Frame, bool], Answer]
    check: Callable[[Task], None]
    metrics: tuple[str, ...] = ()
    draw: Callable[[Array, Answer], Array] | None = None
    files: Callable[[Task, Path], Mapping[str, Path]] | None = None
    stream: Callable[[Infer, Any, Making], tuple[Mapping[str, Array], Frame]] | None = None
    words: bool = False


TASKS: Table[TaskKind] = Table(
    "task",
    "edgepack.tasks",
    {
        PICTURE_CLASSES: "edgepack.tasks.image_classification:TASK",
        "keypoints": "edgepack.tasks.keypoints:TASK",
        "semantic-segmentation": "edgepack.tasks.semantic_segmentation:TASK",
        "object-detection": "edgepack.tasks.object_detection:TASK",
        "text-classification": "edgepack.tasks.text_classification:TASK",
        "sentence-embedding": "edgepack.tasks.sentence_embedding:TASK",
        "token-classification": "edgepack.tasks.token_classification:TASK",
        "text-recognition": "edgepack.tasks.text_recognition:TASK",
        "audio-classification": "edgepack.tasks.audio_classification:TASK",
        "voice-activity": "edgepack.tasks.voice_activity:TASK",
        "tabular-classification": "edgepack.tasks.tabular_classification:TASK",
        "regression": "edgepack.tasks.regression:TASK",
        "anomaly-score": "edgepack.tasks.anomaly_score:TASK",
        TENSORS: "edgepack.tasks.tensors:TASK",
    },
    TaskKind,
)


def check_task(task: Task, where: str = "task") -> None:
    """Raise ``ConfigError``, which begins with ``where``, for an unknown task or settings that cannot be meant."""
    if task.kind not in TASKS:
        raise ConfigError(
            f"{where}: unknown task {task.kind[:80]!r}", hint=documents.suggestion(task.kind, TASKS.names())
        )
    try:
        TASKS.get(task.kind).check(task)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error


def prepare(thing: Any, making: Making) -> Prepared:
    """Return the inputs that a path or an array of the user becomes. Raises ``DataError`` where it cannot."""
    return TASKS.get(making.task.kind).prepare(thing, making)


def files_of(task: Task | None, data: Path) -> Mapping[str, Path]:
    """Return the files that must travel with a bundle, by name; ``data`` is what the bundle was made with."""
    found = TASKS.get(task.kind).files if task is not None else None
    return found(task, data) if found is not None and task is not None else {}


def answer(task: Task, outputs: Mapping[str, Array], frame: Frame, *, measuring: bool = False) -> Answer:
    """Return what a model's outputs for one thing say, in the terms of its task.

    Outputs may hold anything, as an int8 or fp16 model that went astray gives NaN and infinities: what is made of these
    is no answer, and nobody is warned of the arithmetic.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        return TASKS.get(task.kind).answer(task, outputs, frame, measuring)


def read_settings(kind: type[T], values: Mapping[str, Setting], what: str = "settings") -> T:
    """Return ``values`` as the dataclass ``kind``. Raises ``ConfigError`` for unknown keys and wrong types."""
    found: T = documents.decode(kind, documents.encode(values), what)
    return found


def no_more(task: Task, **allowed: bool) -> None:
    """Raise ``ConfigError`` for parts of a task (decoder, parameters, input) that its kind has no use for."""
    for field in dataclasses.fields(task):
        used = field.name in ("kind", "settings", "classes") or allowed.get(field.name, False)
        if not used and getattr(task, field.name):
            raise ConfigError(f"{task.kind} has no {field.name}", hint=f"remove {field.name} from [task]")
