"""Invented inputs suit the model."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.graph.feeds import random_feeds
from edgepack.specs.model import TensorSpec


def test_random_feeds() -> None:
    inputs = (
        TensorSpec("x", "float32", ("N", 3, "L")),
        TensorSpec("i", "int64", ("N", "L")),
        TensorSpec("b", "bool", ()),
        TensorSpec("h", "bfloat16", (2,)),
    )
    feeds = random_feeds(inputs, batch=4, size=7)
    assert {name: array.shape for name, array in feeds.items()} == {"x": (4, 3, 7), "i": (4, 7), "b": (), "h": (2,)}
    assert [str(array.dtype) for array in feeds.values()] == ["float32", "int64", "bool", "bfloat16"]
    again = random_feeds(inputs, batch=4, size=7)
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    assert not np.array_equal(feeds["x"], random_feeds(inputs, seed=1, batch=4, size=7)["x"])


def test_feeds_that_cannot_be_invented() -> None:
    for spec in (TensorSpec("x", "float32", ("...",)), TensorSpec("x", "object", (1,))):
        with pytest.raises(ModelError):
            random_feeds((spec,))
