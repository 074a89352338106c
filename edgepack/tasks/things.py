"""Tasks that take any thing: a picture where the recipe prepares pictures, a sound where it does sounds, else a row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edgepack.data.rows import SUFFIXES as ROWS
from edgepack.errors import ConfigError
from edgepack.specs.signals import Columns, Sound
from edgepack.specs.task import Task
from edgepack.tasks import Making, Prepared
from edgepack.tasks.pictures import prepare_picture
from edgepack.tasks.sounds import check_sound_task, prepare_sound
from edgepack.tasks.tables import check_columns, prepare_row


def prepare_thing(thing: Any, making: Making) -> Prepared:
    """Return the inputs of a picture, a sound or a row, whichever the recipe makes inputs of. Raises ``DataError``."""
    if making.preprocessing is not None:
        return prepare_picture(thing, making)
    is_rows = isinstance(thing, str | Path) and Path(thing).suffix.lower() in ROWS
    if _of_sounds(making.task) or (isinstance(thing, str | Path) and not is_rows):
        return prepare_sound(thing, making)
    return prepare_row(thing, making)


def check_things(task: Task) -> None:
    """Raise ``ConfigError`` for settings of inputs that cannot be meant."""
    if _of_sounds(task):
        check_sound_task(task)
    elif any(key not in _keys(Columns) for key in task.input):
        unknown = next(key for key in task.input if key not in _keys(Columns))
        known = sorted(_keys(Columns) | _keys(Sound))
        raise ConfigError(f"unknown key {unknown!r} in task.input", hint=f"it has {', '.join(known)}")
    else:
        check_columns(task)


def _of_sounds(task: Task) -> bool:
    return bool(task.input) and all(key in _keys(Sound) for key in task.input)


def _keys(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
