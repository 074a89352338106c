"""Relu, bounds, and the larger of two keep NaN, alone and behind a convolution, for one batch and for any."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from backend_models import FLOAT, make, save
from codegen_models import model, run_ours, run_reference
from onnx import helper

from edgepack.engines import get_backend
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

pytestmark = pytest.mark.slow

SIX = {"zero": np.float32(0).reshape(()), "six": np.float32(6).reshape(())}


def convolution(activation: str) -> onnx.ModelProto:
    last = helper.make_node("Clip", ["c", "zero", "six"], ["y"]) if activation == "Relu6" else None
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        last or helper.make_node(activation, ["c"], ["y"]),
    ]
    weights = {"w": np.random.default_rng(1).standard_normal((16, 8, 3, 3)).astype(np.float32)}
    return model(nodes, {"x": [1, 8, 9, 9]}, {**weights, **SIX}, ("y",))


@pytest.mark.parametrize("activation", ["Relu", "Relu6", "Elu", "HardSwish"])
def test_behind_a_convolution(activation: str) -> None:
    proto = convolution(activation)
    x = np.random.default_rng(0).standard_normal((1, 8, 9, 9)).astype(np.float32)
    x[0, 3, 4, 4] = np.nan
    (found,), _ = run_ours(proto, {"x": x})
    (wanted,) = run_reference(proto, {"x": x})
    assert np.isnan(wanted).sum() == 16 * 9
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((1, 3), (2, 1)), ((2, 1, 3), (4, 1)), ((3,), ())])
def test_the_larger_of_two_of_other_shapes(shapes: Any) -> None:
    nodes = [
        helper.make_node("Max", ["a", "b"], ["m"]),
        helper.make_node("ReduceMax", ["m"], ["y"]),
        helper.make_node("Min", ["b", "a"], ["z"]),
    ]
    proto = model(nodes, {"a": list(shapes[0]), "b": list(shapes[1])}, {}, ("m", "y", "z"))
    random = np.random.default_rng(0)
    for nan in ("", "a", "b"):
        feeds = {name: np.asarray(random.standard_normal(s), np.float32) for name, s in zip("ab", shapes, strict=True)}
        if nan:
            feeds[nan].reshape(-1)[0] = np.nan
        for found, wanted in zip(run_ours(proto, feeds)[0], run_reference(proto, feeds), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_model_that_is_compiled_for_any_batch(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Max", ["r", "half"], ["y"])]
    stored = {"half": np.float32(0.5).reshape(())}
    made = save(make(nodes, [("x", FLOAT, ["N", 5])], [("y", FLOAT, ["N", 5])], stored), tmp_path / "m.onnx")
    backend = get_backend("tvm")
    target = Target("test", "test", "tvm", "x86_64", engine=EngineFacts())
    compiled = backend.compile_model(dataclasses.replace(made, mixes_batch=True), target, "fp32", tmp_path / "out")
    assert "batch free" in (tmp_path / "out" / "interface.txt").read_text()
    with closing(backend.load_model(compiled, RunOptions(threads=1))) as runner:
        x = np.array([[np.nan, -1, 3, np.inf, -np.inf], [1, np.nan, 0, 0, 0]], np.float32)
        np.testing.assert_array_equal(
            runner.infer({"x": x})["y"], np.array([[np.nan, 0.5, 3, np.inf, 0.5], [1, np.nan, 0.5, 0.5, 0.5]])
        )
