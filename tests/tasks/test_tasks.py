"""The table of tasks, and what is refused of a task's settings."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.base import documents
from edgepack.errors import ConfigError
from edgepack.specs.answer import Classes
from edgepack.specs.task import Frame, Task
from edgepack.tasks import TASKS, answer, check_task


@pytest.mark.parametrize("name", TASKS.own)
def test_every_task_says_what_it_is(name: str) -> None:
    kind = TASKS.get(name)
    assert kind.title
    assert kind.things
    assert TASKS.own[name] == f"edgepack.tasks.{name.replace('-', '_')}:TASK"


@pytest.mark.parametrize(
    ("task", "message", "hint"),
    [
        (Task("image-clasification"), "unknown task 'image-clasification'", "image-classification"),
        (Task("image-classification", settings={"tops": 1}), "unknown key 'tops'", "top"),
        (Task("image-classification", settings={"top": 0}), "top = 0", "1 to"),
        (Task("image-classification", settings={"top": "many"}), "expected a whole number", "whole number"),
        (Task("image-classification", "yolo"), "has no decoder", "remove decoder"),
        (Task("image-classification", parameters={"a": 1}), "has no parameters", "remove parameters"),
        (Task("tensors", settings={"a": 1}), "no settings", "remove"),
    ],
)
def test_what_cannot_be_meant_is_refused(task: Task, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_task(task, "recipe.toml: task")
    assert caught.value.message.startswith("recipe.toml: task: ")
    assert hint in str(caught.value.hint)


def test_a_task_is_a_document() -> None:
    task = Task(
        "x", "y", {"a": 1, "b": 0.5, "c": True, "d": (1.0, 2.0), "e": ((1.0, 2.0),), "f": ("g",)}, classes=("h",)
    )
    assert documents.from_json(Task, documents.to_json(task), "task") == task


def test_an_answer_is_made_by_the_tasks_kind() -> None:
    task = Task("image-classification", settings={"top": 1}, classes=("cat", "dog"))
    found = answer(task, {"scores": np.array([[0.0, 3.0]], np.float32)}, Frame())
    assert isinstance(found, Classes)
    assert found.names == ("dog",)
