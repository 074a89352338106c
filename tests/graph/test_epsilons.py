"""ONNX Runtime's optimizer keeps the epsilon that a norm says, on whichever side it is added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.compare import run_model
from edgepack.graph.epsilons import put_epsilons_last
from edgepack.graph.load import load_model, save_proto
from edgepack.graph.prepare import prepare, prepare_plain

X = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32) * np.float32(0.01)  # variance: 1e-4


def norm(kind: str, *, inline: bool = False, root: str = "Sqrt") -> onnx.ModelProto:
    """Return a "layer" or "rms" norm over the last axis that adds the variance to an epsilon of 0.001."""
    values = {"two": np.float32(2), "small": np.float32(1e-3), "half": np.float32(0.5),
              "scale": np.linspace(0.5, 2, 8, dtype=np.float32), "offset": np.ones(8, np.float32)}  # fmt: skip
    source = "d" if kind == "layer" else "x"
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[-1], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["d"]),
    ] * (kind == "layer")
    if inline:
        nodes.append(helper.make_node("Constant", [], ["small"], value=numpy_helper.from_array(values.pop("small"))))
    nodes += [
        helper.make_node("Pow", [source, "two"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["v"], axes=[-1], keepdims=1),
        helper.make_node("Add", ["small", "v"], ["safe"]),
        helper.make_node(root, ["safe"] if root == "Sqrt" else ["safe", "half"], ["r"]),
        helper.make_node("Div", [source, "r"], ["n"]),
        helper.make_node("Mul", ["n", "scale"], ["k"]),
        helper.make_node("Add", ["k", "offset"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("prepared_by", [prepare, prepare_plain])
@pytest.mark.parametrize("root", ["Sqrt", "Pow"])
@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_the_epsilon_is_kept(tmp_path: Path, kind: str, inline: bool, root: str, prepared_by: object) -> None:
    source = load_model(save_proto(norm(kind, inline=inline, root=root), tmp_path / "source").path)
    wanted = run_model(source, {"x": X}, optimize=False)["y"]
    prepared = prepared_by(source, tmp_path / "prepared")  # type: ignore[operator]
    np.testing.assert_allclose(run_model(prepared, {"x": X})["y"], wanted, rtol=1e-4, atol=1e-5)


def test_only_a_constant_in_front_is_moved() -> None:
    proto = norm("layer")
    assert put_epsilons_last(proto) == 1
    assert list(next(node for node in proto.graph.node if node.output[0] == "safe").input) == ["v", "small"]
    before = proto.SerializeToString()
    assert put_epsilons_last(proto) == 0
    assert proto.SerializeToString() == before
