"""Layers in float between int8 ones are computed in float by ONNX Runtime, with the weights that the file has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantize_models import minmax_ranges, node, normal, random_feeds, run_onnxruntime, save, sqnr_db

from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.float_layers import keep_float
from edgepack.quantize import quantize
from edgepack.quantize.sensitivity import run_model
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

STEP = 0.5
CHANNELS = 8
PADS = [1, 1, 1, 1]
PICTURE, ROW, ROWS = [1, CHANNELS, 6, 6], [1, CHANNELS], [1, 5, CHANNELS]
LAYERS: dict[str, tuple[list[onnx.NodeProto], list[int]]] = {
    "convolution": ([node("Conv", "d w b", "c", pads=PADS)], PICTURE),
    "depthwise convolution": ([node("Conv", "d deep b", "c", pads=PADS, group=CHANNELS)], PICTURE),
    "no bias": ([node("Conv", "d w", "c", pads=PADS)], PICTURE),
    "transposed convolution": ([node("ConvTranspose", "d w b", "c", pads=PADS)], PICTURE),
    "matrix product": ([node("Gemm", "d m b", "c")], ROW),
    "product and bias": ([node("MatMul", "d m", "p"), node("Add", "p b", "c")], ROW),
    "product and bias of rows": ([node("MatMul", "d m", "p"), node("Add", "b p", "c")], ROWS),
    "moved before": (
        [node("MaxPool", "d", "v", kernel_shape=[1, 1]), node("Conv", "v w b", "c", pads=PADS)],
        PICTURE,
    ),
    "moved behind": (
        [node("Conv", "d w b", "v", pads=PADS), node("Transpose", "v", "c", perm=[0, 1, 3, 2])],
        PICTURE,
    ),
    "folded": ([node("Conv", "d w b", "v", pads=PADS), node("Mul", "v scale", "c")], PICTURE),
    "computed weights": ([node("Add", "w scale", "v"), node("Conv", "d v b", "c", pads=PADS)], PICTURE),
}
ACTIVATIONS = {"none": [], "relu": [node("Relu", "c", "r")], "clip": [node("Clip", "c zero six", "r")]}


def between(nodes: list[onnx.NodeProto], shape: list[int], *, signed: bool = True) -> onnx.ModelProto:
    """Return the nodes, which read ``d`` and whose last output is ``c`` or ``r``, between two pairs of Q/DQ."""
    spread = np.exp(normal(CHANNELS, seed=5) * 2).astype(np.float32)  # one scale does not suit all channels
    constants: dict[str, Any] = {
        "w": normal(CHANNELS, CHANNELS, 3, 3, seed=2) * spread[:, None, None, None],
        "deep": normal(CHANNELS, 1, 3, 3, seed=2) * spread[:, None, None, None],
        "m": normal(CHANNELS, CHANNELS, seed=3) * spread,
        "b": normal(CHANNELS, seed=4), "scale": np.float32(1.5), "zero": np.float32(0), "six": np.float32(6),
        "s": np.float32(0.02), "z": np.uint8(128), "s2": np.float32(STEP), "z2": np.uint8(128 if signed else 0),
    }  # fmt: skip
    last = nodes[-1].output[0]
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), *nodes,
        node("QuantizeLinear", f"{last} s2 z2", "q2"), node("DequantizeLinear", "q2 s2 z2", "y"),
    ]  # fmt: skip
    read = {name for one in nodes for name in one.input}
    graph = helper.make_graph(
        nodes, "between", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in read],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto, *, optimized: bool) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"x": normal(*session.get_inputs()[0].shape, seed=7)})
    return np.asarray(found)


def wrong(proto: onnx.ModelProto, expected: Array) -> float:
    """Return the share of values that are not in the step that they should be in; sums are rounded otherwise."""
    return float((np.abs(run(proto, optimized=True) - expected) > STEP / 2).mean())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_file_s_own_weights_are_used(layer: str, activation: str) -> None:
    nodes, shape = LAYERS[layer]
    proto = between([*nodes, *ACTIVATIONS[activation]], shape, signed=activation == "none")
    expected = run(proto, optimized=False)
    assert keep_float(proto) == 1
    onnx.checker.check_model(proto)
    np.testing.assert_array_equal(run(proto, optimized=False), expected)
    assert wrong(proto, expected) < 0.01
    assert keep_float(proto) == 0


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - {"product and bias of rows"}))
def test_the_engine_quantizes_them_by_itself(layer: str) -> None:
    """Where it does not any more, the pass can go. Rows it makes a matrix of first, which depends on what follows."""
    nodes, shape = LAYERS[layer]
    proto = between(nodes, shape)
    assert wrong(proto, run(proto, optimized=False)) > 0.05


OTHERS = {
    "nothing is quantized behind": [node("Conv", "d w b", "v", pads=PADS), node("Sigmoid", "v", "c")],
    "read twice": [
        node("Conv", "d w b", "v", pads=PADS), node("Sigmoid", "v", "g"), node("Mul", "v g", "c"),
    ],
    "nothing was dequantized before": [node("Sigmoid", "d", "v"), node("Conv", "v w b", "c", pads=PADS)],
    "no constant weights": [node("Slice", "d start end", "v"), node("Conv", "d v", "c", pads=PADS)],
    "a product without a bias": [node("MatMul", "d square", "c")],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_alone(name: str) -> None:
    proto = between(OTHERS[name], PICTURE)
    before = proto.SerializeToString()
    constants = {"square": normal(6, 6), "start": np.array([0, 0]), "end": np.array([1, CHANNELS])}
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    whole = proto.SerializeToString()
    assert keep_float(proto) == 0
    assert proto.SerializeToString() == whole != before


def test_what_is_an_output_as_well_is_left_alone() -> None:
    proto = between(LAYERS["convolution"][0], PICTURE)
    proto.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    assert keep_float(proto) == 0


def three_layers(tmp_path: Path) -> tuple[OnnxModel, list[dict[str, Array]]]:
    """Return a model of three convolutions, of which the channels of the second differ, and inputs."""
    spread = np.exp(normal(8, seed=5) * 2).astype(np.float32)[:, None, None, None]
    nodes = [
        node("Conv", "x w1 b", "one"), node("Relu", "one", "r1"), node("Conv", "r1 w2 b", "two"),
        node("Relu", "two", "r2"), node("Conv", "r2 w3 b", "y"),
    ]  # fmt: skip
    weights = {f"w{i}": normal(8, 8, 1, 1, seed=i) for i in (1, 2, 3)}
    weights["w2"] = weights["w2"] * spread
    model = save(nodes, {**weights, "b": normal(8, seed=9)}, tmp_path / "model.onnx", inputs={"x": ["N", 8, 6, 6]})
    return model, random_feeds(model, 8)


def test_a_bundle_and_the_judges_compute_in_float_what_was_left_in_float(tmp_path: Path) -> None:
    model, feeds = three_layers(tmp_path)
    ranges = minmax_ranges(model, feeds)
    rules = load_target("host-onnxruntime").quantization
    quantized = quantize(model, ranges, dataclasses.replace(rules, leave=("two",)), tmp_path / "int8")
    assert quantized.sha256 != quantize(model, ranges, rules, tmp_path / "all").sha256
    expected = run_onnxruntime(quantized, feeds, optimized=False)
    engine = get_backend("onnxruntime")
    compiled = engine.compile_model(quantized, load_target("host-onnxruntime"), "int8", tmp_path / "out")
    runner = engine.load_model(compiled, RunOptions())
    bundle = [[runner.infer(feed)["y"].copy()] for feed in feeds]
    runner.close()
    judged = [[found["y"]] for found in run_model(quantized, feeds)]
    alone = sqnr_db(expected, run_onnxruntime(quantized, feeds))  # what the engine makes of the file as it is
    assert sqnr_db(expected, bundle) > alone + 10
    assert sqnr_db(expected, judged) > alone + 10
