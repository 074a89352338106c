"""Zeros in front of a maximum pool stay zeros in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model, save_proto
from edgepack.graph.prepare import prepare
from edgepack.graph.zero_pads import keep_zero_pads
from edgepack.specs.types import Array

X = -1 - np.random.default_rng(0).random((1, 2, 4, 4), np.float32)  # negative: a padded window's maximum is zero


def model(
    value: Array | None = None, pads: int = 1, opset: int = 17, kind: int = TensorProto.FLOAT, *, inline: bool = False
) -> onnx.ModelProto:
    """Return a model of Pads and a MaxPool; ``inline`` keeps the value in a Constant node."""
    constants = [numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "sizes")]
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Neg", ["n"], ["t0"])]
    if value is not None and inline:
        nodes.append(helper.make_node("Constant", [], ["value"], value=numpy_helper.from_array(value)))
    elif value is not None:
        constants.append(numpy_helper.from_array(value, "value"))
    names = ["value"] if value is not None else []
    for i in range(pads):
        if opset < 11:
            nodes.append(helper.make_node("Pad", [f"t{i}"], [f"t{i + 1}"], pads=[0, 0, 1, 1, 0, 0, 1, 1]))
        else:
            nodes.append(helper.make_node("Pad", [f"t{i}", "sizes", *names], [f"t{i + 1}"]))
    nodes.append(helper.make_node("MaxPool", [f"t{pads}"], ["y"], kernel_shape=[2, 2], strides=[2, 2]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", kind, None)], constants if opset >= 11 else [],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def pooled(proto: onnx.ModelProto, folder: Path, x: Array = X) -> Array:
    """Return the answer of ONNX Runtime as everybody runs it."""
    return run_model(save_proto(proto, folder), {"x": x})["y"]


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("value", [None, np.float32(0), np.zeros(1, np.float32)])
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
def test_the_padding_is_zero(tmp_path: Path, value: Array | None, opset: int, inline: bool) -> None:
    proto = model(None if value is None else np.asarray(value), opset=opset, inline=inline)
    assert keep_zero_pads(proto) == 1
    answer = pooled(proto, tmp_path)
    assert (answer[:, :, [0, 2]] == 0).all()
    assert (answer[:, :, 1, 1] < 0).all()
    assert keep_zero_pads(proto) == 0


def test_halves_are_padded_with_halves(tmp_path: Path) -> None:
    proto = model(kind=TensorProto.FLOAT16)
    assert keep_zero_pads(proto) == 1
    assert (pooled(proto, tmp_path, X.astype(np.float16))[:, :, [0, 2]] == 0).all()


def test_another_value_stays(tmp_path: Path) -> None:
    for value in (np.float32(-0.5), np.float32(-np.inf)):
        proto = model(np.asarray(value))
        before = proto.SerializeToString()
        assert keep_zero_pads(proto) == 0
        assert proto.SerializeToString() == before


@pytest.mark.parametrize(("pads", "opset"), [(1, 17), (2, 17), (1, 10)])
def test_a_prepared_model_computes_what_its_graph_says(tmp_path: Path, pads: int, opset: int) -> None:
    # Two Pads became a pool whose padding is as large as its windows, which ONNX Runtime refuses to load.
    source = load_model(save_proto(model(np.zeros((), np.float32), pads, opset), tmp_path / "source").path)
    wanted = run_model(source, {"x": X}, optimize=False)["y"]
    prepared = prepare(source, tmp_path / "prepared")
    np.testing.assert_array_equal(run_model(prepared, {"x": X})["y"], wanted)
    assert (wanted[:, :, 0] == 0).all()


@pytest.mark.parametrize(("pads", "size", "kept"), [(1, 1, False), (1, 2, True), (2, 1, True)])
def test_a_mean_pool_is_not_given_more_padding_than_its_window(
    tmp_path: Path, pads: int, size: int, kept: bool
) -> None:
    proto = model(pads=pads)
    pool = proto.graph.node[-1]
    pool.op_type = "AveragePool"
    pool.attribute.append(helper.make_attribute("count_include_pad", 1))
    sizes = np.array([0, 0, size, size, 0, 0, size, size])
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(sizes, "sizes"))
    source = load_model(save_proto(proto, tmp_path / "source").path)
    wanted = run_model(source, {"x": X}, optimize=False)["y"]
    prepared = prepare(source, tmp_path / "prepared")
    np.testing.assert_allclose(run_model(prepared, {"x": X})["y"], wanted, rtol=1e-6)
    assert bool(keep_zero_pads(proto)) is kept
