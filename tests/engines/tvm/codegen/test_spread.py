"""What a kernel makes for each channel is summed once, not once for each position that it is spread over."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from codegen_models import assert_close, feeds, model, run_ours, run_reference
from onnx import helper

pytestmark = pytest.mark.slow


def gated(operator: str, *, kernel: bool) -> onnx.ModelProto:
    """Return a picture and a gate of its mean, with a convolution in between or not."""
    weights = {"w": np.random.default_rng(0).standard_normal((16, 16, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Conv", ["mean", "w"], ["gate"]) if kernel else helper.make_node("Abs", ["mean"], ["gate"]),
        helper.make_node("HardSigmoid", ["gate"], ["open"]),
        helper.make_node(operator, ["x", "open"], ["y"]),
    ]
    return model(nodes, {"x": [1, 16, 9, 11]}, weights if kernel else {}, ("y",))


@pytest.mark.parametrize("operator", ["Mul", "Add", "Sub", "Div"])
def test_a_gate_is_finished_before_it_is_spread(operator: str) -> None:
    proto = gated(operator, kernel=True)
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs), 1e-5 if operator != "Div" else 1e-4)
    (name,) = (name for name in lowered.rules if "convolution" in name)
    sizes = [[int(size) for size in buffer.shape] for buffer in lowered.module[name].params]
    assert [1, 9, 11, 16] not in sizes


def test_nothing_is_copied_where_no_kernel_is_behind_it() -> None:
    proto = gated("Mul", kernel=False)
    _, lowered = run_ours(proto, feeds(proto))
    assert not any("finished" in name for name in lowered.rules)


def test_what_has_the_size_of_the_result_stays_with_its_kernel() -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((16, 16, 1, 1)).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    proto = model(nodes, {"x": [1, 16, 9, 11]}, weights, ("y",))
    _, lowered = run_ours(proto, feeds(proto))
    assert not any("finished" in name for name in lowered.rules)
