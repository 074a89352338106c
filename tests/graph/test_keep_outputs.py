"""Outputs that are left out, and what computed only these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import model as make_model
from graph_models import value, write
from onnx import helper, numpy_helper

from edgepack.errors import ConfigError
from edgepack.graph.compare import run_model
from edgepack.graph.keep_outputs import keep_outputs
from edgepack.graph.load import load_model, read_proto
from edgepack.specs.model import OnnxModel


def three_heads(tmp_path: Path) -> OnnxModel:
    """y = -x, z = |y + w|, and c, which an If makes of y or of w."""
    branches = {
        f"{name}_branch": helper.make_graph([node], name, [], [onnx.helper.make_tensor_value_info("b", 1, [4])])
        for name, node in (
            ("then", helper.make_node("Identity", ["y"], ["b"])),
            ("else", helper.make_node("Identity", ["w"], ["b"])),
        )
    }
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("Add", ["y", "w"], ["sum"]),
        helper.make_node("Abs", ["sum"], ["z"]),
        helper.make_node("If", ["yes"], ["c"], **branches),
    ]
    proto = make_model(nodes, [value("x", [4])], [value("y", [4]), value("z", [4]), value("c", [4])])
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.arange(4, dtype=np.float32), "w"), numpy_helper.from_array(np.array(False), "yes")]
    )
    return load_model(write(proto, tmp_path / "in"))


@pytest.mark.parametrize(
    ("names", "operators", "weights"),
    [
        (("y",), ["Neg"], []),
        (("z",), ["Neg", "Add", "Abs"], ["w"]),
        (("c",), ["Neg", "If"], ["w", "yes"]),
        (("z", "y"), ["Neg", "Add", "Abs"], ["w"]),
    ],
)
def test_what_only_others_need_goes_and_the_rest_computes_the_same(
    names: tuple[str, ...], operators: list[str], weights: list[str], tmp_path: Path
) -> None:
    whole = three_heads(tmp_path)
    kept = keep_outputs(whole, names, tmp_path / "out")
    graph = read_proto(kept).graph
    assert tuple(spec.name for spec in kept.outputs) == names
    assert [node.op_type for node in graph.node] == operators
    assert [tensor.name for tensor in graph.initializer] == weights
    feeds = {"x": np.array([1, -2, 3, -4], np.float32)}
    before, after = run_model(whole, feeds), run_model(kept, feeds)
    assert list(after) == list(names)
    for name in names:
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(("names", "message"), [(("Y",), "no output 'Y'"), (("y", "y"), "named twice")])
def test_names_that_cannot_be_meant(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        keep_outputs(three_heads(tmp_path), names, tmp_path / "out")
    assert "y" in caught.value.hint
    assert not (tmp_path / "out" / "model.onnx").exists()
