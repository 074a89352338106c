"""What inspect shows of a model: operators, weights, layers with their precision, and multiply-adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import model, small_conv, value, write
from mutations import quantized
from onnx import TensorProto, helper

from edgepack.base import documents
from edgepack.graph.describe import LayerDescription, ModelDescription, describe
from edgepack.graph.load import load_model


def described(proto: onnx.ModelProto, tmp_path: Path) -> ModelDescription:
    return describe(load_model(write(proto, tmp_path)))


def test_small_conv(tmp_path: Path) -> None:
    found = described(small_conv(), tmp_path)
    assert found.operators == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert found.parameters == 64 * 27 + 64 + 64 * 5 + 5
    assert found.weight_bytes == {"float32": 4 * found.parameters}
    assert found.layers == (
        LayerDescription("conv", "Conv", "fp32", 4 * (64 * 27 + 64), 8 * 8 * 64 * 27),
        LayerDescription("fc", "Gemm", "fp32", 4 * (64 * 5 + 5), 64 * 5),
    )
    assert found.macs == 8 * 8 * 64 * 27 + 64 * 5
    assert not found.quantized


def test_is_a_document(tmp_path: Path) -> None:
    proto = small_conv()
    proto.metadata_props.add(key="a", value="b")
    found = described(proto, tmp_path)
    assert documents.from_json(ModelDescription, documents.to_json(found), "x") == found
    assert found.metadata == {"a": "b"}


def test_quantized_layers(tmp_path: Path) -> None:
    found = described(quantized(), tmp_path)
    assert found.quantized
    assert found.layers == (LayerDescription("product", "MatMul", "int8", 16, 16),)
    assert found.parameters == 16  # scales and zero points are none


def test_compressed_weights_are_said(tmp_path: Path) -> None:
    proto = quantized()
    del proto.graph.node[:2]
    proto.graph.node[1].input[0] = "x"
    found = described(proto, tmp_path)
    assert found.layers[0].precision == "fp32, int8 weights"
    assert not found.quantized


def test_half_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["p"], name="product"),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = model(nodes, [value("x", ["N", 4])], [value("y", ["N", 2])], {"w": np.ones((4, 2), np.float16)})
    assert described(proto, tmp_path).layers == (LayerDescription("product", "MatMul", "fp16", 16, 8),)


def test_unknown_shapes_are_not_guessed(tmp_path: Path) -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    found = described(model(nodes, [value("x", ["N", 3, "H", "W"])], [value("y", None)], weights), tmp_path)
    assert found.layers[0].macs is None
    assert found.macs is None


def test_layers_inside_control_flow(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["b"], name="inner")], "b", [], [value("b", None)]
    )
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    inputs = [value("c", [], TensorProto.BOOL), value("x", [1, 4])]
    found = described(model([node], inputs, [value("y", None)], {"w": np.ones((4, 4), np.float32)}), tmp_path)
    assert [layer.name for layer in found.layers] == ["inner", "inner"]
    assert found.layers[0].weight_bytes == 64
    assert found.parameters == 16


@pytest.mark.slow
def test_multiply_adds_of_a_real_network(assets: Path, tmp_path: Path) -> None:
    """Forward hooks on the torch module's convolutions and linear layer count the same multiply-adds."""
    from edgepack.graph.prepare import prepare

    source = load_model(assets / "efficientnet_lite0.onnx")
    assert describe(source).macs == 385_187_552  # its paddings are computed in the graph
    found = describe(prepare(source, tmp_path))
    assert found.parameters == pytest.approx(4.652e6, rel=0.01)  # batch norms are folded
    assert found.macs == 385_187_552
    assert len(found.layers) == 50


def test_weights_of_a_recurrent_layer_are_found_behind_what_puts_them_together(tmp_path: Path) -> None:
    """As exporters write them: each gate by itself, joined and given a first axis in the graph."""
    gates = {f"w{i}": np.ones((8, 3), np.float32) for i in range(2)} | {"r": np.ones((1, 16, 4), np.float32)}
    proto = model(
        [
            helper.make_node("Concat", ["w0", "w1"], ["w"], axis=0),
            helper.make_node("Unsqueeze", ["w", "first"], ["wide"]),
            helper.make_node("LSTM", ["x", "wide", "r"], ["y"], name="lstm", hidden_size=4),
        ],
        [value("x", (5, 1, 3))],
        [value("y", (5, 1, 1, 4))],
        {**gates, "first": np.array([0])},
    )
    (layer,) = described(proto, tmp_path).layers
    assert (layer.op, layer.weight_bytes) == ("LSTM", 4 * (2 * 8 * 3 + 16 * 4))


def test_weights_that_layers_share_are_counted_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", [a, "w"], [b], name=b) for a, b in (("x", "h"), ("h", "y"))]
    proto = model(nodes, [value("x", (1, 4))], [value("y", (1, 4))], {"w": np.ones((4, 4), np.float32)})
    found = described(proto, tmp_path)
    assert [layer.weight_bytes for layer in found.layers] == [64, 0]
    assert sum(layer.weight_bytes for layer in found.layers) == found.weight_bytes["float32"]
