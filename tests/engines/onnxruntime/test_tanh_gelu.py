"""GELU by tanh is joined however it is spelled, and nothing that only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantize_models import node, operators, random_feeds, run_onnxruntime, save

from edgepack.engines import get_backend
from edgepack.engines.onnxruntime.tanh_gelu import join_tanh_gelu
from edgepack.graph.load import load_model, read_proto
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

CONSTANTS = {"half": 0.5, "one": 1.0, "three": 3.0, "cubic": 0.044715, "root": (2 / np.pi) ** 0.5, "other": 0.05}
INNER = [node("Add", "x q", "s"), node("Mul", "s root", "t"), node("Tanh", "t", "u"), node("Add", "u one", "v")]
CUBE = [node("Pow", "x three", "p"), node("Mul", "p cubic", "q")]
HALVED = [node("Mul", "x half", "h"), node("Mul", "h v", "y")]
SPELLINGS = {
    "gelu_new": [*CUBE, *INNER, *HALVED],
    "halved last": [*CUBE, *INNER, node("Mul", "x v", "w"), node("Mul", "w half", "y")],
    "two in a row": [*CUBE, *INNER, node("Mul", "x half", "h"), node("Mul", "h v", "g"),
                     node("Pow", "g three", "p2"), node("Mul", "p2 cubic", "q2"), node("Add", "g q2", "s2"),
                     node("Mul", "s2 root", "t2"), node("Tanh", "t2", "u2"), node("Add", "u2 one", "v2"),
                     node("Mul", "g half", "h2"), node("Mul", "h2 v2", "y")],
}  # fmt: skip
OTHERS = {
    "another factor": [CUBE[0], node("Mul", "p other", "q"), *INNER, *HALVED],
    "read elsewhere too": [*CUBE, *INNER, node("Mul", "x half", "h"), node("Mul", "h v", "g"), node("Add", "g v", "y")],
    "without the half": [*CUBE, *INNER, node("Mul", "x v", "y")],
}


def model_of(nodes: Sequence[Any], tmp_path: Path) -> OnnxModel:
    constants = {name: np.asarray(value, np.float32) for name, value in CONSTANTS.items()}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 4, 8, 8)})


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_becomes_one_node_that_computes_the_same(name: str, tmp_path: Path) -> None:
    model = model_of(SPELLINGS[name], tmp_path)
    backend = get_backend("onnxruntime")
    compiled = backend.compile_model(model, Target("t", "t", "onnxruntime", "x86_64"), "fp32", tmp_path / "out")
    found = operators(load_model(compiled.folder / compiled.entry))
    assert found == ["FastGelu"] * (2 if name == "two in a row" else 1)
    runner = backend.load_model(compiled, RunOptions(threads=1))
    feeds = [{"x": 6 * feed["x"]} for feed in random_feeds(model, 3)]
    for feed, (expected,) in zip(feeds, run_onnxruntime(model, feeds), strict=True):
        np.testing.assert_allclose(runner.infer(feed)["y"], expected, rtol=1e-5, atol=2e-6)
    runner.close()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_stays_as_it_is(name: str, tmp_path: Path) -> None:
    proto = read_proto(model_of(OTHERS[name], tmp_path))
    before = proto.SerializeToString()
    assert join_tanh_gelu(proto) == 0
    assert proto.SerializeToString() == before
