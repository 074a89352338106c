"""Slices of channels before quantized convolutions are read over, with weights of zero, where that is quicker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from codegen_models import import_model, model, run_ours, run_reference
from onnx import helper

from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine

if TYPE_CHECKING:
    import onnx

pytestmark = pytest.mark.slow
WIDE = machine("x86_64", ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"))
NARROW = machine("x86_64", ("avx2", "fma", "avx_vnni"))
SCALE, OTHER, ZERO = np.float32(0.05), np.float32(0.02), np.uint8(120)


def sliced(*, kernel: int = 1, step: int = 2, read_again: bool = False, outputs: int = 16) -> onnx.ModelProto:
    """A convolution, quantized, of which another one reads every n-th channel."""
    random = np.random.default_rng(0)

    def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(operator, inputs.split(), [output], **attributes)

    nodes = [
        node("Conv", "x v", "a"),
        node("QuantizeLinear", "a scale zero", "aq"),
        node("DequantizeLinear", "aq scale zero", "ad"),
        node("Slice", "ad first last axis step", "c"),
        node("QuantizeLinear", "c scale zero", "cq"),
        node("DequantizeLinear", "cq scale zero", "cd"),
        node("DequantizeLinear", "w scales none", "wd", axis=0),
        node("Conv", "cd wd", "y", pads=[kernel // 2] * 4),
        node("QuantizeLinear", "y other zero", "yq"),
        node("DequantizeLinear", "yq other zero", "z"),
    ]
    weights = {
        "v": random.standard_normal((16, 4, 1, 1)).astype(np.float32),
        "w": random.integers(-127, 128, (outputs, 8, kernel, kernel)).astype(np.int8),
        "scales": random.uniform(0.001, 0.002, outputs).astype(np.float32), "none": np.zeros(outputs, np.int8),
        "scale": np.array(SCALE), "other": np.array(OTHER), "zero": np.array(ZERO),
        "first": np.array([1]), "last": np.array([1 + 8 * step]), "axis": np.array([1]),
        "step": np.array([step]),
    }  # fmt: skip
    return model(nodes, {"x": [1, 4, 6, 5]}, weights, ("z", "cd") if read_again else ("z",))


def test_the_sums_are_the_same() -> None:
    proto = sliced()
    x = np.random.default_rng(2).standard_normal((1, 4, 6, 5)).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, precision="int8")
    (wanted,) = run_reference(proto, {"x": x})
    steps = np.abs(ours[0] - wanted) / OTHER  # a half is rounded by sums in another order
    assert (steps < 0.01).mean() > 0.95
    assert steps.max() < 1.01
    assert np.abs(wanted).max() > 20 * OTHER
    assert "slice" not in " ".join(lowered.rules)


@pytest.mark.parametrize(
    ("proto", "of", "read_over"),
    [
        (sliced(), WIDE, True),
        (sliced(outputs=128), WIDE, False),  # more products with zero than the slice is worth
        (sliced(), NARROW, True),
        (sliced(outputs=32), NARROW, False),
        (sliced(kernel=3), WIDE, False),
        (sliced(read_again=True), WIDE, False),
        (sliced(step=1), WIDE, False),
    ],
    ids=["one", "many outputs", "narrow", "many for narrow", "window", "slice read again", "neighbours"],
)
def test_when_a_slice_is_read_over(proto: onnx.ModelProto, of: Any, read_over: bool) -> None:
    assert ("slice" not in " ".join(lower(import_model(proto), of, "int8").rules)) == read_over
