"""What a model's file tells of its classes and scores, for a task that was told nothing of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgepack.graph.load import read_proto
from edgepack.specs.task import Task
from edgepack.tasks import PICTURE_CLASSES

if TYPE_CHECKING:
    from edgepack.specs.model import OnnxModel

_SCORING = (PICTURE_CLASSES, "text-classification", "audio-classification", "tabular-classification")
_SIGMOIDS = ("Sigmoid", "HardSigmoid")
_SAME_VALUES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
_LETTERS = "character"  # PaddleOCR's and RapidOCR's name for the letters of a recognizer, one a line


def with_letters(task: Task | None, model: OnnxModel) -> Task | None:
    """Return a task that reads lines of text with the letters that the model notes, where nobody named them."""
    if task is None or task.kind != "text-recognition" or task.classes or task.settings.get("charset"):
        return task
    notes = {entry.key: entry.value for entry in read_proto(model, weights=False).metadata_props}
    letters = notes.get(_LETTERS, "").replace("\r\n", "\n").removesuffix("\n")
    return dataclasses.replace(task, classes=tuple(letters.split("\n"))) if letters else task


def with_activation(task: Task | None, model: OnnxModel, *, pictures: bool) -> Task | None:
    """Return a task that takes the scores of a model which ends with a sigmoid for probabilities, unless it says how.

    They are of classes of which several may be true: they do not add up to 1, and a softmax would spoil them.
    ``pictures`` says that a model of which nobody said what it is for takes pictures: then it tells their classes.
    """
    if task is None and (not pictures or len(model.outputs[0].shape) != 2):
        return task
    known = task or Task(PICTURE_CLASSES)
    if known.kind not in _SCORING or known.settings.get("activation", "auto") != "auto":
        return task
    if not _ends_with_sigmoid(model):
        return task
    return dataclasses.replace(known, settings={**known.settings, "activation": "none"})


def _ends_with_sigmoid(model: OnnxModel) -> bool:
    """Say whether the first output is what a sigmoid gave."""
    graph = read_proto(model, weights=False).graph
    producers = {name: node for node in graph.node for name in node.output}
    node = producers.get(model.outputs[0].name)
    while node is not None and node.op_type in _SAME_VALUES:
        node = producers.get(node.input[0])
    return node is not None and node.op_type in _SIGMOIDS
