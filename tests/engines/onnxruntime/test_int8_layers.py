"""Int8 convolutions are found with their integers, and get others without changing what others read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import numpy_helper
from quantize_models import minmax_ranges, node, random_feeds, save

from edgepack.engines.onnxruntime.int8_layers import constant, int8_layers, integers, replace
from edgepack.graph.clean.view import View
from edgepack.graph.load import read_proto
from edgepack.quantize import quantize
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

RULES = QuantizationRules(engine="onnxruntime")


@pytest.fixture
def proto(tmp_path: Path) -> onnx.ModelProto:
    """A layer with a bias, and one of two groups without."""
    random = np.random.default_rng(0)
    constants = {
        "w": random.standard_normal((4, 2, 3, 3)),
        "b": random.standard_normal(4),
        "v": random.standard_normal((6, 2, 1, 1)),
    }
    nodes = [node("Conv", "x w b", "c"), node("Conv", "c v", "y", group=2)]
    floats = {name: value.astype(np.float32) for name, value in constants.items()}
    model = save(nodes, floats, tmp_path / "m.onnx", inputs={"x": (1, 2, 8, 8)})
    return read_proto(quantize(model, minmax_ranges(model, random_feeds(model, 2)), RULES, tmp_path / "int8"))


def test_layers_are_found_with_weights_bias_and_groups(proto: onnx.ModelProto) -> None:
    first, second = int8_layers(View(proto))
    assert (first.shape, first.groups) == ((4, 2, 3, 3), 1)
    assert (second.shape, second.groups, second.bias) == ((6, 2, 1, 1), 2, None)
    assert first.bias is not None
    values, zero = integers(View(proto), first)
    assert (values.dtype.name, values.shape, zero.tolist()) == ("int8", (4, 2, 3, 3), [0] * 4)


def test_a_layer_whose_weights_others_read_is_none(proto: onnx.ModelProto) -> None:
    first, _ = int8_layers(View(proto))
    again = type(first.node)()
    again.CopyFrom(first.node)
    again.output[0] = "again"
    proto.graph.node.append(again)
    assert [layer.shape for layer in int8_layers(View(proto))] == [(6, 2, 1, 1)]


def test_other_integers_are_for_one_reader(proto: onnx.ModelProto) -> None:
    view = View(proto)
    first, _ = int8_layers(view)
    name = first.weight.input[0]
    before = constant(view, name)
    replace(view, first.weight, 0, np.zeros((4, 1, 1, 1), np.int8))
    assert constant(view, first.weight.input[0]).shape == (4, 1, 1, 1)
    kept = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    np.testing.assert_array_equal(numpy_helper.to_array(kept), before)
