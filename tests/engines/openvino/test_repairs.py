"""What OpenVINO would compute otherwise than its graph says is what the graph says: at borders, in batches, of zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines import get_backend
from edgepack.engines.openvino.repairs import pad_means_apart, repair, say_zeros, sum_in_float
from edgepack.engines.targets import load_target
from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array, Precision

X = np.random.default_rng(0).normal(0, 2, (2, 4, 6, 6)).astype(np.float32)
SCALE = np.float32(0.05)


def pooled(zero: int, kind: str, between: str = "", *, last: bool = True, include: int = 1) -> onnx.ModelProto:
    """Return x -> Q/DQ -> (an operator) -> AveragePool of 3x3 that is padded -> perhaps Q/DQ."""
    constants = {"s": SCALE, "z": np.array(zero, kind)}

    def pair(name: str, to: str) -> list[onnx.NodeProto]:
        quantize = helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{to}q"], name=f"{to}q")
        return [quantize, helper.make_node("DequantizeLinear", [f"{to}q", "s", "z"], [to], name=to)]

    nodes = pair("x", "d")
    if between:
        inputs = ["d", "d"] if between == "Concat" else ["d"]
        more: Any = {"Concat": {"axis": 1}, "MaxPool": {"kernel_shape": [1, 1]}}.get(between, {})
        nodes.append(helper.make_node(between, inputs, ["m"], name="m", **more))
    how: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": include}
    nodes.append(helper.make_node("AveragePool", ["m" if between else "d"], ["p"], name="p", **how))
    nodes += pair("p", "y") if last else [helper.make_node("Identity", ["p"], ["y"], name="y")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def answered(model: OnnxModel, x: Array, out: Path, precision: Precision = "int8") -> Array:
    engine = get_backend("openvino")
    compiled = engine.compile_model(model, load_target("host-openvino"), precision, out)
    return np.array(engine.load_model(compiled, RunOptions(threads=1)).infer({"x": x})["y"])


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("between", ["", "Relu", "MaxPool", "Concat"])
@pytest.mark.parametrize(("zero", "kind"), [(0, "uint8"), (128, "uint8"), (20, "int8")])
def test_the_border_is_what_the_graph_says(tmp_path: Path, zero: int, kind: str, between: str, last: bool) -> None:
    onnx.save(pooled(zero, kind, between, last=last), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    wanted = run_model(model, {"x": X}, optimize=False)["y"]
    found = answered(model, X, tmp_path / "out")
    assert np.abs(found - wanted).max() <= SCALE * 1.01  # one step, where rounding breaks a tie


def test_it_computes_the_same(tmp_path: Path) -> None:
    proto = pooled(128, "uint8")
    onnx.save(proto, tmp_path / "m.onnx")
    wanted = run_model(load_model(tmp_path / "m.onnx"), {"x": X}, optimize=False)["y"]
    assert pad_means_apart(proto) == 1
    onnx.save(proto, tmp_path / "n.onnx")
    found = run_model(load_model(tmp_path / "n.onnx"), {"x": X}, optimize=False)["y"]
    np.testing.assert_allclose(found, wanted, atol=float(SCALE) * 1.01)
    assert (np.abs(found - wanted) < SCALE / 2).mean() > 0.95
    assert pad_means_apart(proto) == 0


def test_what_does_not_count_its_padding_stays() -> None:
    assert pad_means_apart(pooled(128, "uint8", include=0)) == 0
    floating = pooled(128, "uint8")
    floating.graph.node[2].input[0] = "x"
    assert pad_means_apart(floating) == 0


def summed(operator: str, axes: list[int], zero: int, *, last: bool = False) -> onnx.ModelProto:
    """Return x [N, 5, 8] -> Q/DQ -> ReduceMean or ReduceSum -> perhaps Q/DQ."""
    constants = {"s": SCALE, "z": np.array(zero, np.uint8), "a": np.array(axes)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node(operator, ["d", "a"], ["p"], name="p", keepdims=1),
        helper.make_node(
            "QuantizeLinear" if last else "Identity", ["p", "s", "z"][: 3 if last else 1], ["o"], name="o"
        ),
        helper.make_node(
            "DequantizeLinear" if last else "Identity", ["o", "s", "z"][: 3 if last else 1], ["y"], name="y"
        ),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize(
    ("operator", "axes"), [("ReduceMean", [1]), ("ReduceMean", [1, 2]), ("ReduceSum", [1]), ("ReduceSum", [-1])]
)
def test_sums_are_right_for_every_sample(tmp_path: Path, operator: str, axes: list[int], zero: int, last: bool) -> None:
    onnx.save(summed(operator, axes, zero, last=last), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    x = np.random.default_rng(1).normal(0, 1, (3, 5, 8)).astype(np.float32)
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    assert np.abs(answered(model, x, tmp_path / "out") - wanted).max() <= SCALE * 1.01


def test_norms_keep_their_means() -> None:
    assert sum_in_float(summed("ReduceMean", [-1], 128)) == 0
    assert sum_in_float(summed("ReduceMean", [2], 128)) == 0
    proto = summed("ReduceMean", [1], 128)
    assert repair(proto, int8=False) == 0
    assert repair(proto, int8=True) == 1
    assert repair(proto, int8=True) == 0


@pytest.mark.parametrize(
    ("operator", "values", "zeros"),
    [
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.0}, 1),
        ("HardSigmoid", {"alpha": 0.0, "beta": 0.3}, 1),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.25}, 0),
        ("Selu", {"alpha": 0.0, "gamma": 1.5}, 1),
        ("Selu", {"alpha": 1.0, "gamma": 0.0}, 1),
    ],
)
def test_an_attribute_of_zero_is_zero(tmp_path: Path, operator: str, values: dict[str, float], zeros: int) -> None:
    node = helper.make_node(operator, ["x"], ["y"], name="h", **values)  # type: ignore[arg-type]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4, 6, 6]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    wanted = run_model(model, {"x": X}, optimize=False)["y"]
    np.testing.assert_allclose(answered(model, X, tmp_path / "out", "fp32"), wanted, atol=1e-6)
    assert say_zeros(proto) == zeros
