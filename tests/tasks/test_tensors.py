"""Outputs as they are."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import ConfigError
from edgepack.specs.answer import Tensors
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Frame, Task
from edgepack.tasks import Making, answer, check_task, prepare

TASK = Task("tensors")


def test_arrays_by_name_are_fed_and_given_back() -> None:
    spec = TensorSpec("x", "float32", ("N", 3))
    feeds = {"x": np.ones((1, 3), np.float32)}
    assert prepare(feeds, Making(TASK, (spec,))).feeds is feeds
    found = answer(TASK, feeds, Frame())
    assert isinstance(found, Tensors)
    assert found.outputs is feeds


def test_a_sound_is_fed_as_the_recipe_says() -> None:
    """A model of sounds that no task is for, such as one of notes or of noise."""
    task = Task("tensors", input={"rate": 8000, "length": 6})
    check_task(task)
    spec = TensorSpec("x", "float32", ("N", 6, 1))
    made = prepare(np.array([0.5, -0.25, 1.0]), Making(task, (spec,))).feeds["x"]
    assert made[0, :, 0].tolist() == [0.5, -0.25, 1.0, 0, 0, 0]


def test_what_makes_no_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key 'bands'"):
        check_task(Task("tensors", input={"bands": 3}))
