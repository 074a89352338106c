"""A walk computes what the whole graph does, and what was changed on the way counts for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from quantize_models import random_feeds, run_onnxruntime, save

from edgepack.quantize.graph.replay import Walk

NAMES = ("a", "b", "c", "d", "y")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """x is read at the beginning and at the end, a by two nodes."""
    nodes = [
        helper.make_node("Add", ["x", "k"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["b"], name="b"),
        helper.make_node("Mul", ["a", "b"], ["c"], name="c"),
        helper.make_node("Neg", ["c"], ["d"], name="d"),
        helper.make_node("Sub", ["d", "x"], ["y"], name="y"),
    ]
    folder: Path = tmp_path_factory.mktemp("model")
    return save(nodes, {"k": np.float32([0.5])}, folder / "m.onnx", inputs={"x": ["N", 4]})


@settings(deadline=None, max_examples=25)
@given(stops=st.sets(st.integers(0, 4)))
def test_pieces_give_what_the_whole_gives(model: Any, stops: set[int]) -> None:
    feeds = random_feeds(model, 2)
    walk = Walk(onnx.load(model.path), feeds)
    for stop in sorted(stops | {4}):
        walk.go(stop, NAMES[stop])
    for values, expected in zip(walk.live, run_onnxruntime(model, feeds, optimized=False), strict=True):
        np.testing.assert_array_equal(values["y"], expected[0])


def test_only_what_is_read_ahead_stays_live(model: Any) -> None:
    walk = Walk(onnx.load(model.path), random_feeds(model, 1))
    walk.go(2, "c")
    assert set(walk.live[0]) == {"x", "c"}
    assert walk.largest_bytes == 2 * 4 * 4


def test_the_tensor_that_is_asked_for_stays_although_nobody_reads_it(model: Any) -> None:
    walk = Walk(onnx.load(model.path), random_feeds(model, 1))
    walk.go(4, "y")
    assert set(walk.live[0]) == {"y"}


def test_a_changed_tensor_changes_what_follows(model: Any) -> None:
    (feed,) = random_feeds(model, 1)
    walk = Walk(onnx.load(model.path), [feed])
    walk.go(2, "c")
    walk.live[0]["c"] = np.zeros_like(walk.live[0]["c"])
    walk.go(4, "y")
    np.testing.assert_array_equal(walk.live[0]["y"], -feed["x"])


def test_going_where_one_is_does_nothing(model: Any) -> None:
    walk = Walk(onnx.load(model.path), random_feeds(model, 1))
    walk.go(1, "b")
    before = dict(walk.live[0])
    walk.go(1, "b")
    assert before.keys() == walk.live[0].keys()


def test_places_are_by_name(model: Any) -> None:
    assert Walk(onnx.load(model.path), [{}]).places() == {name: number for number, name in enumerate(NAMES)}
