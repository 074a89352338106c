"""Models in memory, run with inner tensors as further outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from quantize_models import random_feeds, save

from edgepack.quantize.graph import sessions
from edgepack.quantize.graph.sessions import of_each_sample, open_session


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """y = relu(x + k), of so many values that they get a file of their own."""
    nodes = [helper.make_node("Add", ["x", "k"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    return save(nodes, {"k": np.full(2048, -0.5, np.float32)}, tmp_path / "m.onnx", inputs={"x": ["N", 2048]})


@pytest.mark.parametrize("in_memory_bytes", [1 << 30, 0])  # 0: as a model of a GiB, through files
@pytest.mark.parametrize("optimized", [False, True])
def test_taps_are_inputs_inner_tensors_and_outputs(
    model: Any, optimized: bool, in_memory_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_IN_MEMORY_BYTES", in_memory_bytes)
    (feed,) = random_feeds(model, 1)
    found = open_session(onnx.load(model.path), ["x", "a", "y"], optimized=optimized)(feed)
    assert list(found) == ["x", "a", "y"]
    np.testing.assert_array_equal(found["a"], feed["x"] - 0.5)
    np.testing.assert_array_equal(found["y"], np.maximum(feed["x"] - 0.5, 0))


def test_the_model_is_left_as_it_was(model: Any) -> None:
    proto = onnx.load(model.path)
    before = proto.SerializeToString()
    open_session(proto, ["a"])
    assert proto.SerializeToString() == before


def test_the_model_is_left_as_it_was_when_it_cannot_be_loaded(model: Any) -> None:
    proto = onnx.load(model.path)
    proto.graph.node[0].op_type = "NoSuchOperator"
    before = proto.SerializeToString()
    with pytest.raises(Exception, match="NoSuchOperator"):
        open_session(proto, ["a"])
    assert proto.SerializeToString() == before


def test_inputs_alone_need_no_run(model: Any) -> None:
    feed = {"x": np.zeros((1, 3), np.float32)}  # of a shape that the model would refuse
    assert open_session(onnx.load(model.path), ["x"])(feed)["x"] is feed["x"]


@pytest.mark.parametrize("at_once", [1, 1 << 30])
def test_what_is_made_of_each_sample_is_in_order_however_many_fit(
    model: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_BYTES_AT_ONCE", at_once)
    feeds = random_feeds(model, 5)
    session = open_session(onnx.load(model.path), ["a"], threads=1)
    found = of_each_sample(session, iter(feeds), lambda values: values["a"][0, 0])
    assert found == [feed["x"][0, 0] - np.float32(0.5) for feed in feeds]
