"""Padding in front of strides and beside the last window is what the graph says, in float and in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from backend_models import FLOAT, make
from onnx import helper

from edgepack.engines import get_backend
from edgepack.engines.openvino.paddings import pad_ceiled_means_apart, step_apart
from edgepack.engines.targets import load_target
from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

SCALE = np.float32(0.05)
SIDE = 6


def chain(rank: int, zero: int | None, *layers: tuple[str, dict[str, Any]]) -> onnx.ModelProto:
    """Return x [2, 4, 6, ...] -> Relu, or Q/DQ with that zero point -> layers -> y, with the shapes that are known."""
    drawn = np.random.default_rng(0)
    weights: dict[str, Array] = {"s": np.asarray(SCALE), "ws": np.full(4, 0.03, np.float32)}
    if zero is None:
        nodes = [helper.make_node("Relu", ["x"], ["t"], "first")]
    else:
        weights["z"] = np.asarray(zero, np.uint8)
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["t"], "first"),
        ]
    last = "t"
    for number, (operator, how) in enumerate(layers):
        made = "y" if number == len(layers) - 1 else f"t{number}"
        reads = [last]
        if operator == "Conv":
            values = drawn.integers(-99, 99, (4, 4 // how.get("group", 1), *how["kernel_shape"]))
            weights[f"w{number}"] = values.astype(np.int8)
            nodes.append(helper.make_node("DequantizeLinear", [f"w{number}", "ws"], [f"f{number}"], axis=0))
            reads.append(f"f{number}")
        if operator == "Pad":
            weights[f"p{number}"] = np.array(how.pop("sizes"))
            reads.append(f"p{number}")
        nodes.append(helper.make_node(operator, reads, [made], f"{operator}{number}", **how))
        last = made
    shape = ["N", 4, *[SIDE] * rank]
    return onnx.shape_inference.infer_shapes(make(nodes, [("x", FLOAT, shape)], [("y", FLOAT, None)], weights))


def check_answers(proto: onnx.ModelProto, rank: int, folder: Path, precision: Any) -> None:
    """Compare OpenVINO's answers with ONNX Runtime's."""
    x = np.random.default_rng(1).normal(0, 2, (2, 4, *[SIDE] * rank)).astype(np.float32)
    onnx.save(proto, folder / "m.onnx")
    model, engine = load_model(folder / "m.onnx"), get_backend("openvino")
    compiled = engine.compile_model(model, load_target("host-openvino"), precision, folder / "out")
    found = np.array(engine.load_model(compiled, RunOptions(threads=1)).infer({"x": x})["y"])
    wanted = run_model(model, {"x": x}, optimize=False)["y"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def conv(rank: int, size: int = 1, stride: int = 1, pads: tuple[int, int] = (0, 0), **more: Any) -> tuple[str, Any]:
    how = {"kernel_shape": [size] * rank, "strides": [stride] * rank, "pads": [pads[0]] * rank + [pads[1]] * rank}
    return "Conv", how | more


@pytest.mark.parametrize("zero", [None, 0, 128], ids=["float", "zero 0", "zero 128"])
@pytest.mark.parametrize("pads", [(1, 1), (1, 0), (2, 1)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_stride_of_a_padded_convolution(rank: int, pads: tuple[int, int], zero: int | None, tmp_path: Path) -> None:
    proto = chain(rank, zero, conv(rank, stride=2, pads=pads))
    check_answers(proto, rank, tmp_path, "fp32" if zero is None else "int8")


@pytest.mark.parametrize("between", ["conv", "pad", "relu behind", "one axis"])
def test_a_stride_behind_padding(between: str, tmp_path: Path) -> None:
    sizes = ("Pad", {"sizes": [0, 0, 1, 0, 0, 0, 0, 1]})
    padded = conv(2, pads=(1, 0))
    layers: Any = {
        "conv": (padded, conv(2, stride=2)),
        "pad": (sizes, conv(2, stride=2)),
        "relu behind": (padded, ("Relu", {}), ("Sigmoid", {}), conv(2, stride=2)),
        "one axis": (conv(2, pads=(1, 1), strides=[2, 1]),),
    }[between]
    check_answers(chain(2, None, *layers), 2, tmp_path, "fp32")


def test_what_meets_no_padding_stays() -> None:
    assert step_apart(chain(2, None, conv(2, 3, pads=(1, 1)), ("Relu", {}), conv(2, stride=2))) == 0
    assert step_apart(chain(2, None, conv(2, pads=(1, 1)))) == 0
    assert step_apart(chain(2, None, conv(2, 3, 2, pads=(1, 1)))) == 0
    assert step_apart(chain(2, None, conv(2, stride=2, pads=(1, 1), group=4))) == 0
    proto = chain(2, None, conv(2, stride=2, pads=(1, 1)))
    assert (step_apart(proto), step_apart(proto)) == (1, 0)


def mean(rank: int, size: int, stride: int, pads: tuple[int, int], **more: Any) -> tuple[str, Any]:
    how = {"kernel_shape": [size] * rank, "strides": [stride] * rank, "pads": [pads[0]] * rank + [pads[1]] * rank}
    return "AveragePool", how | {"ceil_mode": 1, "count_include_pad": 1} | more


@pytest.mark.parametrize("zero", [None, 0, 128], ids=["float", "zero 0", "zero 128"])
@pytest.mark.parametrize(
    ("rank", "size", "stride", "pads"),
    [(1, 3, 2, (1, 0)), (2, 3, 2, (1, 1)), (2, 3, 3, (1, 1)), (2, 2, 3, (1, 1)), (2, 4, 3, (0, 2)), (3, 2, 2, (1, 0))],
)
def test_a_mean_of_a_window_that_ceil_mode_adds(
    rank: int, size: int, stride: int, pads: tuple[int, int], zero: int | None, tmp_path: Path
) -> None:
    check_answers(chain(rank, zero, mean(rank, size, stride, pads)), rank, tmp_path, "fp32" if zero is None else "int8")


def free(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose inner shapes nobody knows, as its sizes are free."""
    del proto.graph.value_info[:]
    for dimension in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_param = "H"
    return proto


def test_sizes_that_are_free(tmp_path: Path) -> None:
    short = free(chain(2, None, mean(2, 3, 2, (1, 1))))
    check_answers(short, 2, tmp_path, "fp32")
    long = free(chain(2, None, mean(2, 2, 2, (1, 1))))
    assert pad_ceiled_means_apart(long) == 0
    onnx.save(long, tmp_path / "long.onnx")
    found = get_backend("openvino").check(load_model(tmp_path / "long.onnx"), load_target("host-openvino"))
    assert [(d.severity, d.node) for d in found] == [("error", "AveragePool0")]


def test_shapes_that_a_file_does_not_state_are_inferred() -> None:
    proto = chain(2, None, mean(2, 2, 3, (1, 1)))
    del proto.graph.value_info[:]
    assert pad_ceiled_means_apart(proto) == 1
    assert pad_ceiled_means_apart(proto) == 0
