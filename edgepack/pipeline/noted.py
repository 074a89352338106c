"""What a model's file notes of its classes, for a task that was told none."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgepack.graph.load import read_proto

if TYPE_CHECKING:
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.task import Task

_LETTERS = "character"  # PaddleOCR's and RapidOCR's name for the letters of a recognizer, one a line


def with_letters(task: Task | None, model: OnnxModel) -> Task | None:
    """Return a task that reads lines of text with the letters that the model notes, where nobody named them."""
    if task is None or task.kind != "text-recognition" or task.classes or task.settings.get("charset"):
        return task
    notes = {entry.key: entry.value for entry in read_proto(model, weights=False).metadata_props}
    letters = notes.get(_LETTERS, "").replace("\r\n", "\n").removesuffix("\n")
    return dataclasses.replace(task, classes=tuple(letters.split("\n"))) if letters else task
