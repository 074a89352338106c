"""ONNX Runtime's hardware-independent optimizations as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import model, small_conv, value, write
from onnx import helper

from edgepack.graph import fold
from edgepack.graph.compare import differences, invent_feeds, run_model
from edgepack.graph.fold import optimize_basic
from edgepack.graph.load import load_model


def test_what_is_constant_is_computed_and_the_answer_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Exp", ["k"], ["e"], name="constant"),
        helper.make_node("Identity", ["x"], ["i"], name="nothing"),
        helper.make_node("Mul", ["i", "e"], ["y"], name="mul"),
    ]
    proto = model(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], {"k": np.float32([1, 2, 3, 4])})
    before = load_model(write(proto, tmp_path / "in"))
    after = optimize_basic(before, tmp_path)
    assert [node.op_type for node in onnx.load(after.path).graph.node] == ["Mul"]
    feeds = invent_feeds(before)
    assert feeds is not None
    assert not differences(run_model(before, feeds), run_model(after, feeds))


@pytest.mark.parametrize(("limit", "operators"), [(64 << 20, ["Add"]), (16, ["Expand", "Add"])])
def test_a_constant_that_would_be_huge_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, operators: list[str]
) -> None:
    monkeypatch.setattr(fold, "FOLD_LIMIT_BYTES", limit)
    nodes = [helper.make_node("Expand", ["k", "s"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"])]
    constants = {"k": np.float32([1]), "s": np.array([32, 64])}
    proto = model(nodes, [value("x", [32, 64])], [value("y", [32, 64])], constants)
    after = optimize_basic(load_model(write(proto, tmp_path / "in")), tmp_path)
    assert [node.op_type for node in onnx.load(after.path, load_external_data=False).graph.node] == operators


def test_large_weights_go_beside_it(tmp_path: Path) -> None:
    after = optimize_basic(load_model(write(small_conv(), tmp_path / "in")), tmp_path)
    assert after.external == ("optimized.onnx.data",)


def test_a_free_size_can_be_fixed_by_name(tmp_path: Path) -> None:
    after = optimize_basic(load_model(write(small_conv(), tmp_path / "in")), tmp_path, {"N": 3})
    assert after.inputs[0].shape == (3, 3, 8, 8)


def test_what_it_made_is_not_in_the_way_of_what_the_next_session_makes(tmp_path: Path) -> None:
    """A product, its bias and a Reshape become a Gemm between Reshapes, and cleaning writes them as products again."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Reshape", ["a", "s"], ["y"]),
    ]  # fmt: skip
    constants = {"w": np.ones((6, 24), np.float32), "b": np.ones(24, np.float32), "s": np.array([0, -1, 3, 8])}
    proto = model(nodes, [value("x", [2, 4, 6])], [value("y", [2, 4, 3, 8])], constants)
    after = onnx.load(optimize_basic(load_model(write(proto, tmp_path / "in")), tmp_path).path)
    assert [node.op_type for node in after.graph.node] == ["Reshape", "Gemm", "Reshape"]
    shape = next(t for t in after.graph.initializer if t.name == after.graph.node[-1].input[1])
    proto.graph.node[-1].input[1] = shape.name
    proto.graph.initializer.append(shape)
    again = load_model(write(proto, tmp_path / "again"))
    assert run_model(again, {"x": np.ones((2, 4, 6), np.float32)})["y"].shape == (2, 4, 3, 8)
