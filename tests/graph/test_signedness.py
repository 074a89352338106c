"""Activations moved from int8 to uint8: every value stays, and ONNX Runtime runs more convolutions in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.signedness import NOTE, as_unsigned, move_to_signed, move_to_unsigned


class Integer:
    """A Q/DQ graph of convolutions with Relus, as TensorFlow Lite's models come out: signed, int8 in and out."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        result = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [result], name=f"n{len(self.nodes)}", **attributes))
        return result

    def pair(self, tensor: str, zero: int) -> str:
        scale, point = self.constant(np.float32(0.05)), self.constant(np.int8(zero))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", tensor, scale, point), scale, point)

    def conv(self, tensor: str, relu: bool) -> str:
        weight = self.constant(self.random.integers(-127, 128, (4, 4, 3, 3), np.int8))
        scales, zeros = self.constant(np.full(4, 0.01, np.float32)), self.constant(np.zeros(4, np.int8))
        made = self.node(
            "Conv", tensor, self.node("DequantizeLinear", weight, scales, zeros, axis=0), pads=[1, 1, 1, 1]
        )
        return self.node("Relu", made) if relu else made

    def model(self, output: str) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.INT8, ["N", 4, 6, 6])
        y = helper.make_tensor_value_info(output, TensorProto.INT8, ["N", 4, 6, 6])
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def network(seed: int = 0, zero: int = -128) -> onnx.ModelProto:
    g = Integer(seed)
    last = g.node("DequantizeLinear", "x", g.constant(np.float32(0.05)), g.constant(np.int8(3)))
    for _ in range(2):
        first = g.pair(g.conv(last, relu=True), zero)
        second = g.pair(g.conv(first, relu=False), 5)
        last = g.pair(g.node("Relu", g.node("Add", first, second)), zero)
    scale, point = g.constant(np.float32(0.05)), g.constant(np.int8(-5))
    return g.model(g.node("QuantizeLinear", g.conv(last, relu=False), scale, point, output="y"))


def session(proto: onnx.ModelProto, *, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if optimized is None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("seed", range(8))
def test_no_value_changes_and_inputs_and_outputs_keep_their_types(seed: int) -> None:
    zero = int(np.random.default_rng(seed).integers(-128, 128))
    before, after = network(seed, zero), network(seed, zero)
    assert move_to_unsigned(after) == 6
    onnx.checker.check_model(after, full_check=True)
    feeds = {"x": np.random.default_rng(seed).integers(-128, 128, (2, 4, 6, 6), np.int8)}
    (expected,), (found,) = session(before).run(None, feeds), session(after).run(None, feeds)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, expected)
    stored = {t.name: t.data_type for t in after.graph.initializer}
    weights = [stored[n.input[0]] for n in after.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]
    assert weights == [TensorProto.INT8] * 5


def test_onnx_runtime_runs_more_convolutions_in_int8(tmp_path: Path) -> None:
    fused = {}
    for name, moved in (("before", False), ("after", True)):
        proto = network()
        if moved:
            move_to_unsigned(proto)
        session(proto, optimized=tmp_path / f"{name}.onnx")
        graph = onnx.load(str(tmp_path / f"{name}.onnx")).graph
        fused[name] = sum(node.op_type == "QLinearConv" for node in graph.node)
    assert fused["after"] > fused["before"]


def test_what_other_nodes_read_or_leaves_the_model_stays(tmp_path: Path) -> None:
    g = Integer(1)
    one, zero = g.constant(np.float32(1)), g.constant(np.int8(0))
    stored = g.node("QuantizeLinear", g.node("DequantizeLinear", "x", one, zero), one, zero)
    g.node("Transpose", stored, output="y", perm=[0, 1, 3, 2])
    proto = g.model("y")
    assert move_to_unsigned(proto) == 0
    model = save_proto(proto, tmp_path)
    assert as_unsigned(model, tmp_path / "out") is model


def test_the_file_says_what_was_done(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    moved = as_unsigned(save_proto(network(), tmp_path), tmp_path / "out")
    assert moved.path.parent == tmp_path / "out"
    (note,) = (entry.value for entry in read_proto(moved).metadata_props if entry.key == NOTE)
    assert note.startswith("6 activations")


def test_there_and_back_is_the_same_graph() -> None:
    there = network()
    before = [node.op_type for node in there.graph.node]
    moved = move_to_unsigned(there)
    assert moved > 0
    assert move_to_signed(there) == moved
    assert [node.op_type for node in there.graph.node] == before
    feeds = {"x": np.random.default_rng(0).integers(-128, 128, (2, 4, 6, 6)).astype(np.int8)}
    (expected,) = onnxruntime.InferenceSession(network().SerializeToString()).run(None, feeds)
    (found,) = onnxruntime.InferenceSession(there.SerializeToString()).run(None, feeds)
    np.testing.assert_array_equal(found, expected)


def test_those_around_zero_stay_where_they_are_as_fast() -> None:
    proto = network(zero=0)
    assert move_to_unsigned(network(zero=0)) > move_to_unsigned(proto, around_zero=False)
