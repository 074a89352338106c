"""Int8 dense layers that follow each other are right for every fixed batch, with a bias and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantize_models import minmax_ranges, node, normal, save

from edgepack.engines import get_backend
from edgepack.engines.openvino.dense_sequences import part_sequences
from edgepack.engines.targets import load_target
from edgepack.graph.compare import run_model
from edgepack.graph.load import read_proto
from edgepack.quantize import quantize
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

WEIGHTS = {"w1": normal(32, 48, seed=1), "w2": normal(48, 16, seed=2), "w3": normal(16, 4, seed=3)}
SINGLE = {
    "lo": np.float32(0),
    "hi": np.float32(6),
    "two": np.float32(2),
    "b": normal(48, seed=4),
    "b2": normal(16, seed=8),
}
LAYERS: dict[str, list[Any]] = {
    "Relu": [node("MatMul", "x w1", "a"), node("Relu", "a", "d"), node("MatMul", "d w2", "y")],
    "nothing": [node("MatMul", "x w1", "a"), node("MatMul", "a w2", "y")],
    "Clip": [node("MatMul", "x w1", "a"), node("Clip", "a lo hi", "d"), node("MatMul", "d w2", "y")],
    "Mul": [node("MatMul", "x w1", "a"), node("Mul", "a two", "d"), node("MatMul", "d w2", "y")],
    "Gemm": [node("Gemm", "x w1", "a"), node("Relu", "a", "d"), node("Gemm", "d w2", "y")],
    "Gemm of turned weights": [node("Gemm", "x t1", "a", transB=1), node("MatMul", "a w2", "y")],
    "Gemm with a bias behind": [node("Gemm", "x w1", "a"), node("Relu", "a", "d"), node("Gemm", "d w2 b2", "y")],
    "three": [
        node("MatMul", "x w1", "a"), node("Relu", "a", "d"), node("MatMul", "d w2", "e"), node("Relu", "e", "g"),
        node("MatMul", "g w3", "y"),
    ],
}  # fmt: skip


def int8(folder: Path, nodes: list[Any]) -> OnnxModel:
    constants = {**WEIGHTS, "t1": np.ascontiguousarray(WEIGHTS["w1"].T), **SINGLE}
    read = {name for one in nodes for name in one.input}
    constants = {name: values for name, values in constants.items() if name in read}
    model = save(nodes, constants, folder / "m.onnx", inputs={"x": ["N", 32]})
    ranges = minmax_ranges(model, [{"x": normal(64, 32, seed=5)}])
    return quantize(model, ranges, load_target("host-openvino").quantization, folder / "int8")


def answer(model: OnnxModel, x: Array, threads: int, folder: Path) -> Array:
    engine = get_backend("openvino")
    compiled = engine.compile_model(model, load_target("host-openvino"), "int8", folder / "out")
    runner = engine.load_model(compiled, RunOptions(threads=threads, fixed_batch=len(x)))
    try:
        return np.array(runner.infer({"x": x})["y"])
    finally:
        runner.close()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [2, 4, 8])
@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_without_a_bias_keep_their_scale(tmp_path: Path, name: str, batch: int, threads: int) -> None:
    model = int8(tmp_path, LAYERS[name])
    x = normal(batch, 32, seed=6)
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    found = answer(model, x, threads, tmp_path)
    assert np.abs(found - wanted).max() <= 0.02 * np.abs(wanted).max(), "a step or two, where rounding breaks a tie"


@pytest.mark.parametrize(
    ("name", "count"), [("Relu", 2), ("Gemm of turned weights", 2), ("Gemm with a bias behind", 2), ("three", 3)]
)
def test_they_get_an_axis_and_nothing_that_is_computed_changes(tmp_path: Path, name: str, count: int) -> None:
    model = int8(tmp_path, LAYERS[name])
    proto = read_proto(model)
    assert part_sequences(proto) == count
    x = normal(5, 32, seed=7)
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = run_model(model, {"x": x}, optimize=True)["y"]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, atol=0.02 * np.abs(wanted).max())


def test_layers_with_a_bias_stay_as_they_are(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w1", "a"), node("Add", "a b", "c"), node("Relu", "c", "d"), node("MatMul", "d w2", "y"),
    ]  # fmt: skip
    assert part_sequences(read_proto(int8(tmp_path, nodes))) == 0
