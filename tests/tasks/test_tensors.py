"""Outputs as they are."""

from __future__ import annotations

import numpy as np

from edgepack.specs.answer import Tensors
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Frame, Task
from edgepack.tasks import Making, answer, prepare

TASK = Task("tensors")


def test_arrays_by_name_are_fed_and_given_back() -> None:
    spec = TensorSpec("x", "float32", ("N", 3))
    feeds = {"x": np.ones((1, 3), np.float32)}
    assert prepare(feeds, Making(TASK, (spec,))).feeds is feeds
    found = answer(TASK, feeds, Frame())
    assert isinstance(found, Tensors)
    assert found.outputs is feeds
