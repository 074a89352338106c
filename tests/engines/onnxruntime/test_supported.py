"""Nodes without a CPU kernel are found, and only those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import backend_models
import numpy as np
import onnx
import onnx.reference
import pytest
from backend_models import BFLOAT16, FLOAT, FLOAT16, MODELS, make, save
from onnx import helper

from edgepack.engines.onnxruntime import engine as onnxruntime
from edgepack.engines.onnxruntime.supported import missing_kernels
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


TARGET = Target("test", "test", "onnxruntime", "x86_64")


def test_a_float16_graph_is_taken(tmp_path: Path) -> None:
    assert onnxruntime.check(save(backend_models.half(FLOAT16), tmp_path / "m.onnx"), TARGET) == []


def test_the_nodes_without_a_bfloat16_kernel_are_named(tmp_path: Path) -> None:
    found = onnxruntime.check(save(backend_models.half(BFLOAT16), tmp_path / "m.onnx"), TARGET)
    assert {d.node for d in found} >= {"first", "fifth"}
    assert any("no Conv for tensor(bfloat16)" in d.message for d in found)
    assert {d.severity for d in found} == {"error"}


def _inner_unknown() -> onnx.ModelProto:
    proto = MODELS["branches"]()
    node = proto.graph.node[0]
    then = next(a.g for a in node.attribute if a.name == "then_branch")
    then.node[-1].op_type, then.node[-1].name = "Frobnicate", "inside"
    return proto


def _string_relu() -> onnx.ModelProto:
    return make([helper.make_node("Abs", ["x"], ["y"], "abs")], [("x", 8, ["N"])], [("y", 8, ["N"])])


@pytest.mark.parametrize(
    ("build", "node", "words"),
    [
        (_inner_unknown, "inside", "does not know the operator Frobnicate"),
        (_string_relu, "abs", "no Abs for tensor(string)"),
    ],
)
def test_nodes_are_found_wherever_they_are(
    build: Callable[[], onnx.ModelProto], node: str, words: str, tmp_path: Path
) -> None:
    found = missing_kernels(save(build(), tmp_path / "m.onnx").path)
    assert [(d.node, words in d.message) for d in found] == [(node, True)]


def test_an_operator_that_is_a_function_of_others_is_taken(tmp_path: Path) -> None:
    """MeanVarianceNormalization and the like have no kernel for every type, but a body that is inlined."""
    nodes = [helper.make_node("CenterCropPad", ["x", "s"], ["y"], axes=[0])]
    proto = make(nodes, [("x", FLOAT, ["N", 3])], [("y", FLOAT, [2, 3])], {"s": np.array([2])}, opset=18)
    assert onnxruntime.check(save(proto, tmp_path / "m.onnx"), TARGET) == []


def test_a_local_function_is_taken(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[N] x) => (float[N] y) { y = mine.twice(x) }
        <domain: "mine", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
    model = save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert onnxruntime.check(model, TARGET) == []
    compiled = onnxruntime.compile_model(model, TARGET, "fp32", tmp_path / "out")
    output = onnxruntime.load_model(compiled, RunOptions(threads=1)).infer({"x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(output["y"], [2, 2, 2])


def test_contributed_operators_are_taken(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    proto = make([node], [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])], domains=["com.microsoft"])
    assert onnxruntime.check(save(proto, tmp_path / "m.onnx"), TARGET) == []


def test_the_real_models_have_all_their_kernels(assets: Path) -> None:
    for path in sorted(assets.glob("*.onnx")):
        assert missing_kernels(path) == []
