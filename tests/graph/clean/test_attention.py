"""ONNX Runtime's Attention: its projection becomes a product of its own, which int8 takes; it computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantize_models import minmax_ranges

from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import prepare
from edgepack.quantize import quantize

WIDTH, LENGTH = 16, 6
SHAPES = {"x": (2, LENGTH, WIDTH), "mask": (2, LENGTH), "added": (2, 4, LENGTH, LENGTH)}
RANDOM = np.random.default_rng(0)


def network(*more: str, **attributes: object) -> onnx.ModelProto:
    """Return an Attention and a product behind it; ``more`` are its optional inputs."""
    weights = {"qkv": (WIDTH, 3 * WIDTH), "b": (3 * WIDTH,), "w": (WIDTH, WIDTH)}
    stored = [numpy_helper.from_array(RANDOM.normal(size=s).astype(np.float32) / 4, n) for n, s in weights.items()]
    places = ["mask" if "mask" in more else "", "", "added" if "added" in more else ""]
    inputs = ["x", "qkv", "b", *places]
    nodes = [
        helper.make_node("Attention", inputs, ["a"], name="att", domain="com.microsoft", num_heads=4, **attributes),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="last"),
    ]
    kinds = {"mask": TensorProto.INT32}
    given = [
        helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), ["N", *SHAPES[n][1:]]) for n in ("x", *more)
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", LENGTH, WIDTH])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", given, [y], stored), opset_imports=opsets, ir_version=8)


def answer(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


@pytest.mark.parametrize(
    ("more", "attributes"),
    [
        ((), {}),
        ((), {"scale": 0.3}),
        (("mask",), {}),
        (("added",), {"unidirectional": 1}),
        (("mask", "added"), {"mask_filter_value": -50.0}),
    ],
)
def test_the_projection_is_a_product_of_its_own(
    more: tuple[str, ...], attributes: dict[str, object], tmp_path: Path
) -> None:
    onnx.save(network(*more, **attributes), tmp_path / "m.onnx")
    prepared = prepare(load_model(tmp_path / "m.onnx"), tmp_path / "prepared")
    operators = [node.op_type for node in read_proto(prepared).graph.node]
    assert "Attention" not in operators
    assert operators.count("MatMul") == 2
    feeds = {name: RANDOM.normal(size=SHAPES[name]).astype(np.float32) for name in ("x", *more)}
    if "mask" in more:
        feeds["mask"] = (np.arange(LENGTH) < [[3], [6]]).astype(np.int32)
    np.testing.assert_allclose(answer(prepared.path, feeds), answer(tmp_path / "m.onnx", feeds), atol=1e-5)


def test_int8_takes_the_projection(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    prepared = prepare(load_model(tmp_path / "m.onnx"), tmp_path / "prepared")
    feeds = [{"x": RANDOM.normal(size=SHAPES["x"]).astype(np.float32)} for _ in range(4)]
    rules = load_target("host-onnxruntime").quantization
    made = quantize(prepared, minmax_ranges(prepared, feeds), rules, tmp_path / "int8")
    integers = {tuple(t.dims) for t in read_proto(made).graph.initializer if t.data_type == TensorProto.INT8}
    assert (WIDTH, 3 * WIDTH) in integers


def test_one_with_a_past_stays(tmp_path: Path) -> None:
    proto = network()
    proto.graph.node[0].input[3:] = ["", "past"]
    proto.graph.node[0].output.append("present")
    cache = [2, "N", 4, "past_length", WIDTH // 4]
    proto.graph.input.append(helper.make_tensor_value_info("past", TensorProto.FLOAT, cache))
    proto.graph.output.append(
        helper.make_tensor_value_info("present", TensorProto.FLOAT, [2, "N", 4, None, WIDTH // 4])
    )
    onnx.save(proto, tmp_path / "m.onnx")
    prepared = prepare(load_model(tmp_path / "m.onnx"), tmp_path / "prepared")
    assert "Attention" in [node.op_type for node in read_proto(prepared).graph.node]
