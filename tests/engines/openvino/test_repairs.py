"""What OpenVINO would compute otherwise than its graph says is what the graph says: at borders, in batches, of zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines import get_backend
from edgepack.engines.openvino.repairs import end_integers, fill_ranks, pad_means_apart, repair, say_zeros
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
    ("operator", "axes"),
    [("ReduceMean", [1]), ("ReduceMean", [1, 2]), ("ReduceSum", [1]), ("ReduceSum", [-1]), ("ReduceLogSum", [1])],
)
def test_sums_are_right_for_every_sample(tmp_path: Path, operator: str, axes: list[int], zero: int, last: bool) -> None:
    onnx.save(summed(operator, axes, zero, last=last), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    drawn = np.random.default_rng(1).normal(0, 1, (3, 5, 8))
    x = (np.abs(drawn) + 0.5 if operator == "ReduceLogSum" else drawn).astype(np.float32)
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    assert np.abs(answered(model, x, tmp_path / "out") - wanted).max() <= SCALE * 1.01


def test_norms_keep_their_means() -> None:
    assert end_integers(summed("ReduceMean", [-1], 128)) == 0
    assert end_integers(summed("ReduceMean", [2], 128)) == 0
    proto = summed("ReduceMean", [1], 128)
    assert repair(proto, int8=False) == 0
    assert repair(proto, int8=True) == 1
    assert repair(proto, int8=True) == 0


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_pad_puts_its_own_value_around(tmp_path: Path, value: float, zero: int) -> None:
    proto = around("Pad", zero, value)
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    wanted = run_model(model, {"x": X}, optimize=False)["y"]
    assert np.abs(answered(model, X, tmp_path / "out") - wanted).max() < 1e-5
    assert end_integers(proto) == (value != 0)


@pytest.mark.parametrize("ceil", [False, True])
def test_the_border_of_a_mean_that_is_not_padded_apart_is_what_the_graph_says(tmp_path: Path, ceil: bool) -> None:
    proto = around("AveragePool", 128)
    x = X.reshape(2, 4, 36)
    if ceil:  # the last window would begin in the padding behind the last column, and is left out
        x = X[..., :5]
        proto.graph.input[0].type.tensor_type.shape.dim.add(dim_value=5)
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 6
        del proto.graph.value_info[:], proto.graph.node[-1].attribute[:]
        how = {"kernel_shape": [1, 2], "pads": [0, 1, 0, 1], "strides": [1, 2], "count_include_pad": 1, "ceil_mode": 1}
        proto.graph.node[-1].attribute.extend(helper.make_attribute(name, value) for name, value in how.items())
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    assert np.abs(answered(model, x, tmp_path / "out") - wanted).max() < 1e-5


def around(operator: str, zero: int, value: float = 0.0) -> onnx.ModelProto:
    """Return x -> Q/DQ -> a Pad of pictures that adds ``value``, or a padded AveragePool of sequences."""
    constants = {
        "s": SCALE, "z": np.array(zero, np.uint8), "p": np.array([0, 0, 0, 1, 0, 0, 0, 1]), "v": np.float32(value),
    }  # fmt: skip
    pool: dict[str, Any] = {"kernel_shape": [3], "pads": [1, 1], "count_include_pad": 1}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("Pad", ["d", "p", "v"], ["y"], name="y")
        if operator == "Pad"
        else helper.make_node("AveragePool", ["d"], ["y"], name="y", **pool),
    ]
    shape: list[Any] = ["N", 4, 6, 6] if operator == "Pad" else ["N", 4, 36]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def extremes(operator: str, between: str, zero: int) -> onnx.ModelProto:
    """Return x [N, 4, 6, 6] -> the greatest or least of each channel -> perhaps an operator -> Q/DQ."""
    constants = {"s": SCALE, "z": np.array(zero, np.uint8), "a": np.array([2, 3])}
    pooling = operator == "GlobalMaxPool"
    nodes = [helper.make_node(operator, ["x"] if pooling else ["x", "a"], ["p"], name="p")]
    if between:
        more: Any = {"axis": 1} if between == "Concat" else {}
        nodes.append(helper.make_node(between, ["p"], ["m"], name="m", **more))
    nodes.append(helper.make_node("QuantizeLinear", ["m" if between else "p", "s", "z"], ["q"], name="q"))
    nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="y"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


@pytest.mark.parametrize("between", ["", "Tanh", "Concat"])
@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin", "GlobalMaxPool"])
def test_the_greatest_and_the_least_are_not_rounded(tmp_path: Path, operator: str, between: str) -> None:
    onnx.save(extremes(operator, between, 128), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    wanted = run_model(model, {"x": X}, optimize=False)["y"]
    assert np.abs(answered(model, X, tmp_path / "out") - wanted).max() <= SCALE * 1.01


def test_extremes_of_whole_numbers_stay() -> None:
    shapes = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", 4]) for name in ("x", "y")]
    node = helper.make_node("ReduceMax", ["x"], ["y"], name="y")
    assert repair(helper.make_model(helper.make_graph([node], "g", shapes[:1], shapes[1:])), int8=True) == 0
    proto = extremes("ReduceMax", "", 128)
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


def shifted(operator: str, *, first: bool, shared: bool = False, per_axis: bool = False) -> onnx.ModelProto:
    """Return x [N, 5, 8] -> Q/DQ -> Add or Sub with 8 integers that are dequantized -> Reshape to [N, 40]."""
    scale = np.linspace(0.01, 0.04, 8).astype(np.float32) if per_axis else np.float32(0.02)
    constants = {
        "s": SCALE, "z": np.array(-20, np.int8), "to": np.array([0, 40], np.int64), "cs": scale,
        "c": np.arange(-60, 68, 16).astype(np.int8), "cz": np.zeros(scale.shape, np.int8),
    }  # fmt: skip
    axis = {"axis": 0} if per_axis else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["c", "cs", "cz"], ["k"], name="k", **axis),
        helper.make_node(operator, ["k", "d"] if first else ["d", "k"], ["t"], name="t"),
        *([helper.make_node("Mul", ["t", "k"], ["u"], name="u")] if shared else []),
        helper.make_node("Reshape", ["u" if shared else "t", "to"], ["y"], name="y"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


@pytest.mark.parametrize("operator", ["Add", "Sub"])
@pytest.mark.parametrize(
    "how", [{"first": False}, {"first": True}, {"first": False, "shared": True}, {"first": False, "per_axis": True}]
)
def test_a_constant_of_fewer_axes_ends_no_process(tmp_path: Path, operator: str, how: dict[str, bool]) -> None:
    proto = shifted(operator, **how)
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    x = X[:, 0, :5, :4].repeat(2, axis=2)
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    assert repair(shifted(operator, **how), int8=True) == 1  # else the engine would end these tests
    assert fill_ranks(proto) == 1
    assert fill_ranks(proto) == 0
    onnx.save(proto, tmp_path / "n.onnx")
    np.testing.assert_array_equal(run_model(load_model(tmp_path / "n.onnx"), {"x": x}, optimize=False)["y"], wanted)
    np.testing.assert_allclose(answered(model, x, tmp_path / "out"), wanted, atol=1e-5)


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("size", [1, 3])
def test_a_pad_of_a_sequence_in_front_of_a_convolution(tmp_path: Path, size: int, zero: int) -> None:
    constants = {
        "s": np.asarray(SCALE), "z": np.array(zero, np.uint8), "p": np.array([0, 0, 2, 0, 0, 2]),
        "w": np.random.default_rng(2).integers(-99, 99, (4, 4, size)).astype(np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        helper.make_node("Pad", ["d", "p"], ["e"], "e"),
        helper.make_node("QuantizeLinear", ["e", "s", "z"], ["eq"], "eq"),
        helper.make_node("DequantizeLinear", ["eq", "s", "z"], ["ed"], "ed"),
        helper.make_node("DequantizeLinear", ["w", "s"], ["wd"], "wd"),
        helper.make_node("Conv", ["ed", "wd"], ["y"], "y"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(made), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    x = X.reshape(2, 8, 18)[:, :4, :9].copy()
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    assert np.abs(answered(model, x, tmp_path / "out") - wanted).max() < 1e-4
