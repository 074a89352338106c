"""tensors: outputs are given as they are, for a model of which nothing is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepack.errors import ConfigError
from edgepack.specs.answer import Answer, Tensors
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import Making, Prepared, TaskKind, no_more
from edgepack.tasks.pictures import prepare_picture
from edgepack.tasks.things import check_things, prepare_thing


def _prepare(thing: Any, making: Making) -> Prepared:
    if isinstance(thing, Mapping):
        return Prepared(thing, Frame())
    return prepare_thing(thing, making) if making.task.input else prepare_picture(thing, making)


def _answer(_task: Task, outputs: Mapping[str, Array], _frame: Frame, _measuring: bool) -> Answer:
    return Tensors(outputs)


def _check(task: Task) -> None:
    no_more(task, input=True)
    if task.settings:
        raise ConfigError("tensors has no settings", hint="remove [task.settings]")
    check_things(task)


TASK = TaskKind("outputs as they are", "arrays by name, a picture, a sound or a row", _prepare, _answer, _check)
