"""The floor of the latency: made-up layers and roofs with known answers, then real engines on small models."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_bundles import small_bundle, small_facts, small_golden, small_onnx

from edgepack.bundle.pack import pack
from edgepack.engines import get_backend
from edgepack.engines.openvino.macs import ir_macs
from edgepack.engines.targets import load_target
from edgepack.graph.describe import describe
from edgepack.graph.load import load_model
from edgepack.profiling.layers import LayerRow, LayersReport
from edgepack.profiling.roofline import limit_of, measure_limit
from edgepack.specs.result import Bandwidth, Peak, Peaks, Scenario
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

ONE = RunOptions(threads=1)
# 100 operations a nanosecond in fp32, 400 in int8; 10 bytes a nanosecond from 1000 bytes on, 50 below.
ROOF = Peaks(
    1,
    (Peak("fp32", 100 * 10**9, "a"), Peak("int8", 400 * 10**9, "b")),
    (Bandwidth(100, 50 * 10**9, "c"), Bandwidth(1000, 10 * 10**9, "d")),
)


def row(name: str = "conv", **changes: Any) -> LayerRow:
    known = LayerRow(name, "Conv", True, "fp32", "fp32", "k", None, False, 1000, 0.5, 25_000, 200, None, 100)
    return dataclasses.replace(known, **changes)


def report(*rows: LayerRow) -> LayersReport:
    total = sum(one.time_ns for one in rows)
    return LayersReport(
        "net", "ab", "board", "fp32", "onnxruntime", "CPU", {}, "cpu", (), 7, total, 0.0, 0.0, None, None, rows
    )


def only(one: LayerRow, **options: Any) -> Any:
    (layer,) = limit_of(report(one), ROOF, 2000, **options).layers
    return layer


def test_arithmetic_takes_its_operations_at_the_peak() -> None:
    layer = only(row())
    assert (layer.ops, layer.floor_ns, layer.fraction, layer.bound) == (50_000, 500, 0.5, "compute")
    assert layer.reason == "compute-bound: 50 billion operations a second, 50 % of what this host can"


def test_int8_has_the_peak_of_int8() -> None:
    assert only(row(asked="int8", executed="int8")).floor_ns == 125


def test_a_layer_that_does_not_run_as_asked_is_held_to_what_was_asked() -> None:
    layer = only(row(asked="int8", executed="fp32", reason="no int8 kernel: X runs Conv in float32"))
    assert (layer.floor_ns, layer.bound, layer.reason) == (125, "precision", "no int8 kernel: X runs Conv in float32")


def test_bytes_take_their_time_where_there_are_more_of_them() -> None:
    """900 bytes of weights, which all the model's 950 bytes push out of nothing: 50 bytes a nanosecond; below 1000."""
    layer = only(row(macs=10, moved_bytes=950, weight_bytes=900, time_ns=40))
    assert (layer.floor_ns, layer.bound) == (19, "memory")
    assert layer.reason == "memory-bound: 23.8 GB a second, 48 % of what this host can"


def test_weights_come_from_as_far_as_all_that_is_touched_between_two_uses() -> None:
    """Together 1400 bytes of weights: beyond the small set, so 10 bytes a nanosecond; 100 activations at 50."""
    rows = [row(f"l{i}", macs=0, moved_bytes=800, weight_bytes=700, time_ns=1000) for i in range(2)]
    assert [layer.floor_ns for layer in limit_of(report(*rows), ROOF, 2000).layers] == [72, 72]


def test_fewer_bytes_would_move_in_the_precision_asked_for() -> None:
    slow = row(asked="int8", executed="fp32", macs=0, moved_bytes=400, weight_bytes=0)
    assert only(slow).floor_ns == 2


def test_what_neither_explains_is_overhead() -> None:
    layer = only(row(macs=100, moved_bytes=10, weight_bytes=0))
    assert (layer.bound, layer.reason) == ("overhead", "overhead: arithmetic and memory explain 0 % of its time")
    softmax = only(row(macs=None, moved_bytes=10, weight_bytes=0))
    assert softmax.reason == "overhead: its bytes explain 0 % of its time; its arithmetic is not counted"


def test_the_model_is_the_sum_of_its_layers_and_ten_are_named() -> None:
    rows = [row(f"l{i}", time_ns=1000 + i) for i in range(12)]
    limit = limit_of(report(*rows, row("gone", executed="fused", time_ns=0, macs=None)), ROOF, 12_000)
    assert (limit.floor_ns, limit.fraction, limit.ops, len(limit.layers)) == (6000, 0.5, 600_000, 12)
    assert limit.costliest == tuple(f"l{i}" for i in range(11, 1, -1))


def test_a_query_of_several_samples_or_calls_needs_that_much_more() -> None:
    assert only(row(), samples=8).floor_ns == 4000
    limit = limit_of(report(row()), ROOF, 8000, calls=8)
    assert (limit.floor_ns, limit.samples, limit.fraction) == (4000, 8, 0.5)


def test_a_layer_without_time_or_counts_has_no_fraction() -> None:
    layer = only(row(time_ns=0, macs=None, moved_bytes=None, weight_bytes=0))
    assert (layer.ops, layer.floor_ns, layer.fraction, layer.bound) == (None, 0, None, "overhead")


# --- counts -----------------------------------------------------------------------------------------------------------


def several_operators(path: Path) -> Path:
    """Write a model with a grouped, a depthwise and a transposed convolution, Gemm and MatMul; batch 1."""
    random = np.random.default_rng(0)
    shapes = {"w1": (8, 2, 3, 3), "w2": (8, 1, 5, 5), "w3": (8, 4, 2, 2), "g": (6, 256), "b": (6,), "m": (6, 5)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="grouped", pads=[1, 1, 1, 1], group=2),
        helper.make_node("Conv", ["a", "w2"], ["c"], name="depthwise", pads=[2, 2, 2, 2], strides=[2, 2], group=8),
        helper.make_node("ConvTranspose", ["c", "w3"], ["d"], name="up", strides=[2, 2]),
        helper.make_node("Flatten", ["d"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "g", "b"], ["h"], name="gemm", transB=1),
        helper.make_node("MatMul", ["h", "m"], ["scores"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "several",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(random.standard_normal(s, np.float32), name) for name, s in shapes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def by_onnx_tool(path: Path, feeds: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Return the multiply-adds that onnx-tool counts, by node: a bias counts one for each output."""
    onnx_tool = pytest.importorskip("onnx_tool", reason="onnx-tool is not installed")
    model = onnx_tool.Model(str(path))
    model.graph.shape_infer(feeds)
    model.graph.profile()
    return {name: (int(node.macs[0]), node.op_type) for name, node in model.graph.nodemap.items()}


HAND = {"grouped": 8 * 64 * 2 * 9, "depthwise": 8 * 16 * 25, "up": 8 * 16 * 4 * 4, "gemm": 256 * 6, "fc": 30}


def test_operations_are_those_that_onnx_tool_counts(tmp_path: Path) -> None:
    path = several_operators(tmp_path / "several.onnx")
    ours = {layer.name: layer.macs for layer in describe(load_model(path)).layers}
    assert ours == HAND
    theirs = {k: n for k, (n, _) in by_onnx_tool(path, {"image": np.zeros((1, 4, 8, 8), np.float32)}).items()}
    bias = {"gemm": 6}
    assert {name: theirs[name] - bias.get(name, 0) for name in HAND if name != "up"} == {
        name: count for name, count in HAND.items() if name != "up"
    }


def test_operations_of_a_trained_network_are_those_that_onnx_tool_counts(assets: Path) -> None:
    path = assets / "resnet20_cifar10.onnx"
    theirs = by_onnx_tool(path, {"input": np.zeros((1, 3, 32, 32), np.float32)})
    for layer in describe(load_model(path)).layers:
        count, _ = theirs[layer.name]
        assert layer.macs is not None
        assert 0 <= count - layer.macs <= 0.1 * layer.macs  # the bias: one for each output


def test_an_ir_has_the_same_operations(tmp_path: Path) -> None:
    path = several_operators(tmp_path / "several.onnx")
    compiled = get_backend("openvino").compile_model(
        load_model(path), load_target("host-openvino"), "fp32", tmp_path / "ir"
    )
    counts = sorted(count for count in ir_macs(compiled.folder / compiled.entry).values() if count is not None)
    assert counts == sorted(HAND.values())


def test_a_free_batch_of_an_ir_counts_as_one(tmp_path: Path) -> None:
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    compiled = get_backend("openvino").compile_model(model, load_target("host-openvino"), "fp32", tmp_path / "ir")
    assert sorted(n or 0 for n in ir_macs(compiled.folder / compiled.entry).values()) == [8 * 5, 8 * 27 * 64]


# --- real engines -----------------------------------------------------------------------------------------------------


def openvino_bundle(folder: Path) -> Path:
    model = load_model(small_onnx(folder / "model.onnx"))
    target = load_target("host-openvino")
    compiled = get_backend("openvino").compile_model(model, target, "fp32", folder / "ir")
    golden = small_golden(model.path, folder / "golden" / "golden.npz")
    return pack(compiled, golden, small_facts(target=target), folder)


@pytest.mark.parametrize("make", [small_bundle, openvino_bundle], ids=["onnxruntime", "openvino"])
@pytest.mark.parametrize(("scenario", "samples"), [("SingleStream", 1), ("MultiStream", 8)])
def test_a_bundle_on_this_host(make: Any, scenario: Any, samples: int, tmp_path: Path) -> None:
    limit = measure_limit(make(tmp_path), Scenario(scenario, 1, 1), ONE, 10**6, ROOF)
    assert limit.samples == samples
    assert limit.ops == 2 * samples * (8 * 27 * 64 + 40)
    conv = max(limit.layers, key=lambda layer: layer.ops or 0)
    assert conv.ops == 2 * samples * 8 * 27 * 64
    weights, pictures, outputs = 4 * (8 * 27 + 8), 4 * samples * 3 * 64, 4 * samples * 8 * 64
    assert conv.moved_bytes is not None
    assert conv.moved_bytes >= weights + pictures
    assert conv.moved_bytes <= 2 * (weights + pictures + outputs)  # an engine pads channels for its vectors
    assert conv.time_ns > 0
    assert conv.floor_ns > 0


def test_a_product_that_is_named_after_the_bias_added_to_it_has_its_operations(tmp_path: Path) -> None:
    """torch writes Add(bias, MatMul); OpenVINO fuses both and names the node after the Add."""
    random = np.random.default_rng(0)
    values = {"m": random.standard_normal((48, 32), np.float32), "b": random.standard_normal(32, np.float32)}
    nodes = [
        helper.make_node("Flatten", ["image"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "first"], ["h"], name="gemm"),
        helper.make_node("MatMul", ["h", "m"], ["p"], name="matmul"),
        helper.make_node("Add", ["b", "p"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["scores"], name="relu"),
    ]
    values["first"] = random.standard_normal((192, 48), np.float32)
    graph = helper.make_graph(
        nodes,
        "biased",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 32])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    target = load_target("host-openvino")
    compiled = get_backend("openvino").compile_model(load_model(path), target, "fp32", tmp_path / "ir")
    golden = small_golden(path, tmp_path / "golden" / "golden.npz")
    bundle = pack(compiled, golden, small_facts(target=target), tmp_path)
    limit = measure_limit(bundle, Scenario("SingleStream", 1, 1), ONE, 10**6, ROOF)
    assert limit.ops == 2 * (192 * 48 + 48 * 32)
    free = measure_limit(bundle, Scenario("SingleStream", 1, 1), dataclasses.replace(ONE, fixed_batch=0), 10**6, ROOF)
    assert free.ops == limit.ops, "for one sample OpenVINO runs both products in one node, else each in its own"
