"""OpenVINO's costs: both precisions know the same operators, and large layers gain where small ones do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper, numpy_helper, save, shape_inference
from quantize_models import minmax_ranges, random_feeds

from edgepack.engines.openvino.int8_costs import COSTS
from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model
from edgepack.quantize.worthwhile import find_worthwhile

if TYPE_CHECKING:
    from pathlib import Path


def test_both_precisions_know_the_same_operators() -> None:
    assert set(COSTS.int8) == set(COSTS.float32)


@pytest.mark.parametrize(("channels", "gains"), [(8, False), (64, True), (256, True)])
def test_a_pointwise_convolution_gains_by_its_channels(channels: int, gains: bool) -> None:
    size = channels * 26 * 26
    int8, float32 = (table["pointwise"].of(size, size, size * channels) for table in (COSTS.int8, COSTS.float32))
    assert (int8 < float32) is gains


def test_a_network_of_depthwise_layers_is_left_in_float_and_one_of_wide_layers_is_not(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    left = {}
    for name, (channels, groups, window) in {"narrow": (16, 16, 3), "wide": (128, 1, 3)}.items():
        weights = random.standard_normal((channels, channels // groups, window, window)).astype(np.float32)
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4, group=groups),
            helper.make_node("Conv", ["a", "w"], ["y"], name="second", pads=[1] * 4, group=groups),
        ]
        values = [helper.make_tensor_value_info(n, 1, [1, channels, 20, 20]) for n in ("x", "y")]
        graph = helper.make_graph(nodes, name, values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
        path = tmp_path / f"{name}.onnx"
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        save(shape_inference.infer_shapes(proto), path)
        model = load_model(path)
        (tmp_path / name).mkdir()
        ranges = minmax_ranges(model, random_feeds(model, 1))
        found = find_worthwhile(model, ranges, load_target("host-openvino").quantization, tmp_path / name)
        assert found is not None
        left[name] = found.left
    assert left == {"narrow": ("first", "second"), "wide": ()}
