"""Scales pass activations through gates: nothing else changes, and channels of very different size are kept apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime, save, sqnr_db
from random_graphs import GraphMaker, graphs

from edgepack.errors import ModelError
from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.zero_pads import keep_zero_pads
from edgepack.quantize.correct.channel_groups import FIXED, find_channels
from edgepack.quantize.correct.equalize import apply_scales, equalize
from edgepack.quantize.correct.gain_bias import copy_proto
from edgepack.quantize.correct.gates import close_gates, open_gates
from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.rewrite import shapes_of
from edgepack.quantize.insert import insert
from edgepack.quantize.plan import Plan, make_plan, nearest_integers
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

ENGINES = {
    "onnxruntime": QuantizationRules(engine="onnxruntime"),
    "openvino": QuantizationRules(engine="openvino"),
    "tvm": QuantizationRules(engine="tvm"),
    "tensorrt": QuantizationRules(
        engine="tensorrt", activation_type="int8", activation_symmetric=True, quantize_bias=False
    ),
}
CHANNELS = 8


def detector(out: Path, activation: str = "silu", seed: int = 0) -> OnnxModel:
    """Return a stem, an activation, a pool, a depthwise convolution, an activation and a head, whose channels differ by
    1000 behind the stem, and which all matter alike.
    """
    random = np.random.default_rng(seed)
    size = np.geomspace(0.1, 100, CHANNELS).astype(np.float32)

    def normal(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    nodes: list[Any] = []

    def act(tensor: str, result: str) -> None:
        if activation == "silu":
            nodes.append(helper.make_node("Sigmoid", [tensor], [f"{result}_s"]))
            nodes.append(helper.make_node("Mul", [tensor, f"{result}_s"], [result]))
        else:
            nodes.append(helper.make_node("Add", [tensor, "three"], [f"{result}_a"]))
            nodes.append(helper.make_node("Clip", [f"{result}_a", "zero", "six"], [f"{result}_c"]))
            nodes.append(helper.make_node("Mul", [tensor, f"{result}_c"], [f"{result}_m"]))
            nodes.append(helper.make_node("Div", [f"{result}_m", "six"], [result]))

    constants = {
        "w1": normal(CHANNELS, 3, 3, 3) * size[:, None, None, None] / 5,
        "b1": size,
        "w2": normal(CHANNELS, 1, 3, 3) / size[:, None, None, None],
        "b2": normal(CHANNELS),
        "w3": normal(6, CHANNELS, 1, 1),
        "b3": normal(6),
        "zero": np.float32(0), "three": np.float32(3), "six": np.float32(6),
    }  # fmt: skip
    nodes.append(helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="stem", pads=[1] * 4))
    act("c1", "a1")
    nodes.append(helper.make_node("MaxPool", ["a1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], name="depthwise", group=CHANNELS, pads=[1] * 4))
    act("c2", "a2")
    nodes.append(helper.make_node("Conv", ["a2", "w3", "b3"], ["y"], name="head"))
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return save(nodes, arrays, out, inputs={"x": (1, 3, 16, 16)})


def plan_of(model: OnnxModel, engine: str) -> Plan:
    return make_plan(model, minmax_ranges(model, random_feeds(model, 6)), ENGINES[engine])


def int8_sqnr_db(model: OnnxModel, engine: str, out: Path) -> float:
    """Return the SQNR of the model quantized plainly, computed as the integers stand for."""
    plan = plan_of(model, engine)
    insert(plan.proto, plan.index, plan.placement, nearest_integers(plan), plan.rules)
    feeds = random_feeds(model, 6, seed=1)
    written = save_proto(plan.proto, out)
    return sqnr_db(run_onnxruntime(model, feeds, optimized=False), run_onnxruntime(written, feeds, optimized=False))


@pytest.mark.parametrize("activation", ["silu", "hard-swish"])
@pytest.mark.parametrize("engine", ENGINES)
def test_small_channels_are_not_lost_beside_large_ones(engine: str, activation: str, tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx", activation)
    found = equalize(plan_of(model, engine), random_feeds(model, 6))
    assert found is not None
    scaled = save_proto(found.proto, tmp_path / "scaled")
    before, after = int8_sqnr_db(model, engine, tmp_path / "b"), int8_sqnr_db(scaled, engine, tmp_path / "a")
    assert after > before + 6, f"{before:.1f} dB before, {after:.1f} dB after"
    feeds = random_feeds(model, 4, seed=2)
    same = sqnr_db(run_onnxruntime(model, feeds, optimized=False), run_onnxruntime(scaled, feeds, optimized=False))
    assert same > 90


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), engine=st.sampled_from(sorted(ENGINES)), activation=st.sampled_from(["silu", "hard"]))
def test_any_scales_leave_what_is_computed(seed: int, engine: str, activation: str, tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx", activation, seed)
    plan = plan_of(model, engine)
    proto = copy_proto(plan.proto)
    gates = open_gates(proto, plan)
    index = index_graph(proto)
    channels = find_channels(index, shapes_of(proto), gates)
    assert gates.exits
    count = 1 + max(int(n.max()) for n in [*channels.producers.values(), *channels.numbers.values()])
    scales = np.exp(np.random.default_rng(seed).uniform(-2, 2, count))
    scales[FIXED] = 1.0
    apply_scales(index, channels, gates, scales)
    changed = save_proto(proto, tmp_path / "out")
    feeds = random_feeds(model, 2)
    expected = run_onnxruntime(model, feeds, optimized=False)
    assert sqnr_db(expected, run_onnxruntime(changed, feeds, optimized=False)) > 90


def test_closed_gates_leave_the_graph_as_it_was(tmp_path: Path) -> None:
    plan = plan_of(detector(tmp_path / "m.onnx"), "onnxruntime")
    proto = copy_proto(plan.proto)
    gates = open_gates(proto, plan)
    assert len(proto.graph.node) > len(plan.proto.graph.node)
    close_gates(proto, set(gates.names))
    assert proto == plan.proto


def test_an_engine_that_fuses_nothing_gets_no_gate_without_need(tmp_path: Path) -> None:
    model = save(
        [
            helper.make_node("Conv", ["x", "w1"], ["c"]),
            helper.make_node("Sigmoid", ["c"], ["s"]),
            helper.make_node("Mul", ["c", "s"], ["a"]),
            helper.make_node("Conv", ["a", "w2"], ["y"]),
        ],
        {"w1": np.ones((4, 3, 1, 1), np.float32), "w2": np.ones((4, 4, 1, 1), np.float32)},
        tmp_path / "m.onnx",
        inputs={"x": (1, 3, 8, 8)},
    )
    found = equalize(plan_of(model, "onnxruntime"), random_feeds(model, 4))
    assert found is None or not [n for n in found.proto.graph.node if n.name.endswith("_Scale")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(maker=graphs(), engine=st.sampled_from(sorted(ENGINES)))
def test_random_graphs_compute_what_they_did_whatever_the_gates_do(
    maker: GraphMaker, engine: str, tmp_path: Path
) -> None:
    proto = read_proto(maker.save(tmp_path / "m.onnx"))
    keep_zero_pads(proto)  # as preparing does: ONNX Runtime makes padding a part of pools that do not take it
    model = save_proto(proto, tmp_path / "kept")
    feeds = random_feeds(model, 4)
    try:
        found = equalize(plan_of(model, engine), feeds)
    except ModelError:  # nothing that this engine runs in int8
        return
    if found is None:
        return
    scaled = save_proto(found.proto, tmp_path / "scaled")
    expected = run_onnxruntime(model, feeds, optimized=False)
    assert sqnr_db(expected, run_onnxruntime(scaled, feeds, optimized=False)) > 80
