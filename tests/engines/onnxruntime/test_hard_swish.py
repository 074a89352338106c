"""Hard-swish is joined however it is spelled, and nothing that only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantize_models import node, operators, random_feeds, run_onnxruntime, save

from edgepack.engines import get_backend
from edgepack.engines.onnxruntime.hard_swish import join_hard_swish
from edgepack.graph.load import load_model, read_proto
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

CONSTANTS = {"zero": 0.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "seven": 7.0}
START = [node("Add", "x three", "a"), node("Clip", "a zero six", "c")]
SPELLINGS = {
    "divided last": [*START, node("Mul", "x c", "m"), node("Div", "m six", "y")],
    "times a sixth": [*START, node("Mul", "c x", "m"), node("Mul", "sixth m", "y")],
    "divided first": [*START, node("Div", "c six", "d"), node("Mul", "d x", "y")],
    "added the other way": [node("Add", "three x", "a"), START[1], node("Mul", "x c", "m"), node("Div", "m six", "y")],
}
OTHERS = {
    "another bound": [START[0], node("Clip", "a zero seven", "c"), node("Mul", "x c", "m"), node("Div", "m six", "y")],
    "another offset": [node("Add", "x six", "a"), START[1], node("Mul", "x c", "m"), node("Div", "m six", "y")],
    "another divisor": [*START, node("Mul", "x c", "m"), node("Div", "m seven", "y")],
    "of another tensor": [*START, node("Relu", "x", "r"), node("Mul", "r c", "m"), node("Div", "m six", "y")],
    "not divided": [*START, node("Mul", "x c", "y")],
    "read elsewhere too": [
        *START, node("Mul", "x c", "m"), node("Div", "m six", "d"), node("Add", "d c", "y"),
    ],
}  # fmt: skip


def model_of(nodes: Sequence[Any], tmp_path: Path) -> OnnxModel:
    constants = {name: np.asarray(value, np.float32) for name, value in CONSTANTS.items()}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 4, 8, 8)})


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_becomes_two_nodes_that_compute_the_same(name: str, tmp_path: Path) -> None:
    model = model_of(SPELLINGS[name], tmp_path)
    backend = get_backend("onnxruntime")
    compiled = backend.compile_model(model, Target("t", "t", "onnxruntime", "x86_64"), "fp32", tmp_path / "out")
    assert operators(load_model(compiled.folder / compiled.entry)) == ["HardSigmoid", "Mul"]
    runner = backend.load_model(compiled, RunOptions(threads=1))
    feeds = [{"x": 6 * feed["x"]} for feed in random_feeds(model, 3)]
    for feed, (expected,) in zip(feeds, run_onnxruntime(model, feeds), strict=True):
        np.testing.assert_allclose(runner.infer(feed)["y"], expected, rtol=1e-5, atol=1e-6)
    runner.close()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_stays_as_it_is(name: str, tmp_path: Path) -> None:
    proto = read_proto(model_of(OTHERS[name], tmp_path))
    before = proto.SerializeToString()
    assert join_hard_swish(proto) == 0
    assert proto.SerializeToString() == before


def test_several_in_a_row(tmp_path: Path) -> None:
    second = [
        node("Add", "u three", "a2"), node("Clip", "a2 zero six", "c2"), node("Mul", "u c2", "m2"),
        node("Div", "m2 six", "y"),
    ]  # fmt: skip
    proto = read_proto(model_of([*START, node("Mul", "x c", "m"), node("Div", "m six", "u"), *second], tmp_path))
    assert join_hard_swish(proto) == 2
    assert [n.op_type for n in proto.graph.node] == ["HardSigmoid", "Mul", "HardSigmoid", "Mul"]
