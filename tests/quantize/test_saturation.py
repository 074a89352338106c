"""Weights that cannot saturate, and the simulation of the instruction that does."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from quantize_models import save
from saturation import worst_pair

from edgepack.quantize.placement import Layer
from edgepack.quantize.saturation import PAIR_LIMIT, simulate_saturating_product
from edgepack.quantize.scales import ActivationScale
from edgepack.quantize.weight_rows import from_rows, reduction
from edgepack.quantize.weights import LayerWeights, integer_weights
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

SAFE = QuantizationRules(saturates=True)
DATA = ActivationScale(0.1, 0, "uint8")


def layer(operator: str, groups: int = 1, *, transposed: bool = False, per_channel: bool = True) -> Layer:
    axis = 0 if operator == "Conv" or transposed else 1
    return Layer(0, "layer", operator, "x", "w", axis if per_channel else None, None, groups, transposed=transposed)


@st.composite
def layers(draw: st.DrawFn) -> tuple[Layer, Array]:
    """Draw a layer and heavy-tailed weights, so that the largest of a channel stand alone or side by side."""
    kind = draw(st.sampled_from(["conv", "grouped", "depthwise", "up", "gemm", "turned", "matmul"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, kernel, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    shapes = {
        "conv": (layer("Conv"), (outputs, channels, kernel, kernel)),
        "grouped": (layer("Conv", 2), (2 * outputs, channels, kernel, 1)),
        "depthwise": (layer("Conv", channels), (channels, 1, kernel, kernel)),
        "up": (layer("ConvTranspose", 2), (2 * channels, outputs, kernel, kernel)),
        "gemm": (layer("Gemm"), (channels, outputs)),
        "turned": (layer("Gemm", transposed=True), (outputs, channels)),
        "matmul": (layer("MatMul", per_channel=draw(st.booleans())), (channels, outputs)),
    }
    made, shape = shapes[kind]
    return made, (random.standard_t(2, shape) * 10.0 ** random.integers(-3, 4)).astype(np.float32)


@settings(deadline=None, max_examples=200)
@given(layers(), st.sampled_from(["largest", "nearest"]))
def test_no_two_neighbours_exceed_the_limit(drawn: tuple[Layer, Array], clipping: str) -> None:
    made, weight = drawn
    integers = integer_weights(LayerWeights(weight, None), made, DATA, SAFE, clipping)  # type: ignore[arg-type]
    rows = reduction(integers.values, made)
    assert worst_pair(rows.rows, rows.pairs) <= PAIR_LIMIT
    assert np.abs(rows.rows.astype(int)).max() <= 127
    scale = float(integers.scale.max())
    assert np.abs(integers.dequantized() - weight).max() <= 64 * scale, "only neighbours of one sign give way"


@settings(deadline=None)
@given(layers())
def test_rows_go_back_to_the_shape_of_the_graph(drawn: tuple[Layer, Array]) -> None:
    made, weight = drawn
    np.testing.assert_array_equal(from_rows(reduction(weight, made).rows, weight.shape, made), weight)


def test_weights_that_need_it_not_lose_nothing() -> None:
    weight = np.float32([[1.0, -1.0, 0.2, 0.1]]).reshape(1, 4, 1, 1)
    source = LayerWeights(weight, None)
    safe = integer_weights(source, layer("Conv"), DATA, SAFE).dequantized()
    plain = integer_weights(source, layer("Conv"), DATA, QuantizationRules()).dequantized()
    assert ((safe - weight) ** 2).sum() <= ((plain - weight) ** 2).sum()


def test_depthwise_weights_keep_the_full_range() -> None:
    weight = np.ones((4, 1, 3, 3), np.float32)
    assert (integer_weights(LayerWeights(weight, None), layer("Conv", 4), DATA, SAFE).values == 127).all()


def test_neighbours_that_exceed_share_the_loss() -> None:
    weight = np.float32([[1.0, 1.0, 1.0, 1.0]]).reshape(1, 4, 1, 1)
    integers = integer_weights(LayerWeights(weight, None), layer("Conv"), DATA, SAFE)
    assert integers.dequantized() == pytest.approx(1.0, abs=0.01), "a scale of twice the size loses nothing here"


def test_pairs_of_three_channels_are_those_of_both_engines() -> None:
    """Measured: ONNX Runtime goes on across kernel positions, OpenVINO begins anew at each."""
    rows = reduction(np.zeros((1, 3, 1, 2), np.float32), layer("Conv"))
    at = {(c, x): c * 2 + x for c in range(3) for x in range(2)}  # term of channel c at kernel position x
    openvino, onnxruntime = ({tuple(pair) for pair in pairs.tolist()} for pairs in rows.pairs)
    assert openvino == {(at[0, 0], at[1, 0]), (at[0, 1], at[1, 1])}
    assert onnxruntime == {(at[0, 0], at[1, 0]), (at[2, 0], at[0, 1]), (at[1, 1], at[2, 1])}


def test_simulation_clips_each_pair_and_nothing_else() -> None:
    activations = np.uint8([[255, 255, 255, 255, 255]])
    weights = np.int8([[127, 127, 127, -127, 127], [-128, -128, 64, 64, 0]])
    pairs = np.array([[0, 1], [2, 3]])
    expected = [[32767 + 0 + 255 * 127, -32768 + 255 * 128]]
    assert simulate_saturating_product(activations, weights, pairs).tolist() == expected


_RUN = """
import json, sys, numpy as np, openvino
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", settings)
kernels = [str(o.get_rt_info()["primitiveType"].astype(str)) for o in compiled.get_runtime_model().get_ordered_ops()
           if str(o.get_rt_info()["layerType"].astype(str)) == "Convolution"]
print(json.dumps({"kernels": kernels, "y": compiled([np.load(sys.argv[2])])[0].tolist()}))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction is of x86")
@pytest.mark.parametrize("channels", [3, 8])
def test_openvino_without_vnni_computes_what_the_simulation_does(tmp_path: Path, channels: int) -> None:
    """oneDNN honours ONEDNN_MAX_CPU_ISA, so a host with VNNI can run the saturating kernels too."""
    random = np.random.default_rng(0)
    weights = random.choice(np.int8([-127, -90, 0, 90, 127]), (16, channels, 1, 1))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "one", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ones", "zeros"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"]),
    ]
    constants = {
        "one": np.float32(1), "zero": np.uint8(0), "ones": np.ones(16, np.float32), "zeros": np.zeros(16, np.int8),
        "w": weights,
    }  # fmt: skip
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, channels, 4, 4]})
    values = random.integers(200, 256, (1, channels, 4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    answer = subprocess.run(
        [sys.executable, "-c", _RUN, str(model.path), str(tmp_path / "x.npy")],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        check=True,
    )
    result = json.loads(answer.stdout)
    assert all("avx2" in kernel for kernel in result["kernels"])
    rows = reduction(weights, layer("Conv"))
    samples = values[0].reshape(channels, -1).T.astype(np.uint8)
    expected = simulate_saturating_product(samples, rows.rows, rows.pairs[0]).T.reshape(1, 16, 4, 4)
    np.testing.assert_array_equal(np.array(result["y"]), expected)
    exact = np.tensordot(weights.astype(int)[:, :, 0, 0], values[0], 1)
    assert (expected[0] != exact).any(), "the weights of this test do saturate"
