"""A model loaded for one batch, and again when another batch comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgepack.engines.common.fixed_batch import FixedBatchRunner, free_batch
from edgepack.errors import DataError
from edgepack.specs.model import TensorSpec


def spec(*shape: int | str) -> TensorSpec:
    return TensorSpec("x", "float32", shape)


@pytest.mark.parametrize(
    ("inputs", "free"),
    [
        ((spec("N", 3),), True),
        ((spec("N", 3), spec("N")), True),
        ((spec("N", 3), spec("M", 3)), False),
        ((spec("N", "H"),), False),
        ((spec("*frames", 3),), False),
        ((spec(1, 3),), False),
        ((spec("N", 3), spec(1)), False),
        ((spec(),), False),
    ],
)
def test_the_batch_is_free_where_it_is_the_only_free_size(inputs: tuple[TensorSpec, ...], free: bool) -> None:
    assert free_batch(inputs) == free


class Fake:
    """A runner that takes one batch, or any; it counts."""

    def __init__(self, batch: int | None = None) -> None:
        self.batch, self.calls, self.closed = batch, 0, 0

    def infer(self, feeds: Any, /) -> Mapping[str, Any]:
        self.calls += 1
        if not isinstance(feeds, Mapping) or (self.batch is not None and len(feeds["x"]) != self.batch):
            raise DataError("does not fit")
        return {"y": feeds["x"] * 2}

    def another(self) -> Fake:
        return Fake(self.batch)

    def close(self) -> None:
        self.closed += 1


class Loaded:
    """A fixed-batch runner of batch 2 with what it loaded."""

    def __init__(self) -> None:
        self.fixed, self.general = Fake(2), [Fake() for _ in range(2)]
        self.loads = 0
        self.runner = FixedBatchRunner(self.fixed, self.load, 2)

    def load(self) -> Fake:
        self.loads += 1
        return self.general[self.loads - 1]


def batch(size: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((size, 3), np.float32)}


def test_its_own_batch_never_loads_the_second() -> None:
    loaded = Loaded()
    for _ in range(3):
        assert loaded.runner.infer(batch(2))["y"].shape == (2, 3)
    assert (loaded.fixed.calls, loaded.loads) == (3, 0)


def test_another_batch_loads_once_and_then_goes_there_at_once() -> None:
    loaded = Loaded()
    for size in (5, 1, 5):
        assert loaded.runner.infer(batch(size))["y"].shape == (size, 3)
    assert loaded.loads == 1
    assert loaded.fixed.calls == 1  # its refusal is asked for the first time only
    loaded.runner.infer(batch(2))
    assert loaded.fixed.calls == 2


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": np.ones((2, 3)), "wrong": np.ones((2, 3))},
        [np.ones((2, 3))],
        {"x": np.ones((2, 3)), "y": np.ones((5, 3))},
    ],
)
def test_inputs_that_are_wrong_in_another_way_are_refused_without_a_load(feeds: Any) -> None:
    loaded = Loaded()

    def refuse(_feeds: Any, /) -> Any:
        raise DataError("does not fit")

    runner = FixedBatchRunner(
        type("Refusing", (Fake,), {"infer": lambda _self, feeds, /: refuse(feeds)})(2), loaded.load, 2
    )
    with pytest.raises(DataError, match="does not fit"):
        runner.infer(feeds)
    assert loaded.loads == 0


def test_closing_frees_both() -> None:
    loaded = Loaded()
    loaded.runner.infer(batch(5))
    loaded.runner.close()
    loaded.runner.close()
    assert loaded.general[0].closed == 1
    assert loaded.fixed.closed == 2
    alone = Loaded()
    alone.runner.close()
    assert alone.loads == 0


def test_another_one_for_a_second_thread_runs_both_kinds_of_batches_too() -> None:
    loaded = Loaded()
    other = loaded.runner.another()
    for size in (2, 5):
        assert np.array_equal(other.infer(batch(size))["y"], batch(size)["x"] * 2)
    assert loaded.fixed.calls == 0
