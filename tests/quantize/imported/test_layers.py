"""Weights and biases of quantized models as engines want them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imported_models import operators, run, sqnr_db
from onnx import numpy_helper

from edgepack.graph.clean.view import View
from edgepack.quantize.imported.layers import (
    dequantized,
    float_biases,
    integer_biases,
    keep_pairs_small,
    stored_layers,
    weights_around_zero,
)
from edgepack.quantize.saturation import PAIR_LIMIT
from edgepack.quantize.weight_rows import reduction

_BODIES = {
    "conv": ("float[2,4,5,5]", (6, 4, 3, 3), 0, "y = Conv<pads=[1,1,1,1]>(d, w{bias})"),
    "matmul": ("float[2,8]", (8, 6), 1, "y = MatMul(d, w)"),
    "gemm": ("float[2,8]", (8, 6), 1, "y = Gemm(d, w{bias})"),
    "gemm, turned": ("float[2,8]", (6, 8), 0, "y = Gemm<transB=1>(d, w{bias})"),
}


def layer(
    name: str, weights: np.ndarray, zero: int | np.ndarray = 0, *, channels: bool = True, bias: str = ""
) -> onnx.ModelProto:
    """Return one layer between pairs; ``bias`` is "float", "int32" in the engine's unit, or "other" in another."""
    kind, _, axis, body = _BODIES[name]
    at = f"<axis={axis}>" if channels else ""
    made = "b = DequantizeLinear<axis=0>(bi, bs)" if bias in ("int32", "other") else ""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g ({kind} x) => (float y) {{
        q = QuantizeLinear(x, sx, zx)
        d = DequantizeLinear(q, sx, zx)
        w = DequantizeLinear{at}(wi, sw, zw)
        {made}
        {body.format(bias=", b" if bias else "")} }}"""
    proto = onnx.parser.parse_model(text)
    random = np.random.default_rng(5)
    scales = random.uniform(0.01, 0.03, weights.shape[axis] if channels else ()).astype(np.float32)
    unit = np.float32(0.04) * np.broadcast_to(scales, 6) * (3 if bias == "other" else 1)
    arrays = {
        "sx": np.float32(0.04), "zx": np.uint8(100), "wi": weights, "sw": scales,
        "zw": np.broadcast_to(np.asarray(zero, weights.dtype), scales.shape), "b": random.normal(size=6),
        "bi": random.integers(-3000, 3000, 6).astype(np.int32), "bs": unit,
    }  # fmt: skip
    used = {name for node in proto.graph.node for name in node.input}
    floats = {"b": np.float32, "bs": np.float32}
    proto.graph.initializer.extend(
        numpy_helper.from_array(
            np.ascontiguousarray(a).astype(floats.get(n, np.asarray(a).dtype)).reshape(np.shape(a)), n
        )
        for n, a in arrays.items()
        if n in used and not (n == "b" and made)
    )
    return proto


def feeds(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def weights_of(name: str, seed: int, kind: str = "int8") -> np.ndarray:
    limits = (-127, 128) if kind == "int8" else (0, 256)
    return np.random.default_rng(seed).integers(*limits, _BODIES[name][1]).astype(kind)


@pytest.mark.parametrize("name", _BODIES)
@pytest.mark.parametrize("channels", [True, False])
def test_no_two_neighbours_clip_afterwards(name: str, channels: bool) -> None:
    proto = layer(name, weights_of(name, 1), channels=channels)
    (before,) = run(proto, feeds(proto))
    layers, worst = keep_pairs_small(proto)
    assert layers == 1
    (one,) = stored_layers(View(proto))
    rows = reduction(one.values.astype(np.float32), one.layer)
    sums = [np.abs(rows.rows[:, pairs[:, 0]] + rows.rows[:, pairs[:, 1]]).max() for pairs in rows.pairs]
    assert max(sums) <= PAIR_LIMIT
    (after,) = run(proto, feeds(proto))
    assert sqnr_db(before, after) > 25
    assert 25 < worst < 60


@pytest.mark.parametrize("name", _BODIES)
def test_weights_that_never_clip_stay(name: str) -> None:
    proto = layer(name, (weights_of(name, 1) // 2).astype(np.int8))
    before = proto.SerializeToString()
    assert keep_pairs_small(proto) == (0, math.inf)
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("name", _BODIES)
def test_uint8_weights_around_128_become_int8_with_the_same_values(name: str) -> None:
    proto = layer(name, weights_of(name, 2, "uint8"), 128)
    (before,) = run(proto, feeds(proto))
    assert weights_around_zero(proto) == (1, 0)
    np.testing.assert_array_equal(run(proto, feeds(proto))[0], before)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(_BODIES)), zero=st.integers(0, 255), seed=st.integers(0, 99), channels=st.booleans())
def test_other_weights_are_rounded_to_half_a_step(name: str, zero: int, seed: int, channels: bool) -> None:
    proto = layer(name, weights_of(name, seed, "uint8"), zero, channels=channels)
    (one,) = stored_layers(View(proto))
    before = dequantized(one)
    exact, rounded = weights_around_zero(proto)
    assert exact + rounded == 1
    (one,) = stored_layers(View(proto))
    assert one.values.dtype == np.int8
    assert not one.zero.any()
    assert np.abs(dequantized(one) - before).max() <= one.scale.max() / 2 * 1.001


@pytest.mark.parametrize("name", ["conv", "gemm", "gemm, turned"])
def test_integer_biases_become_the_floats_that_they_stand_for(name: str) -> None:
    proto = layer(name, weights_of(name, 3), bias="int32")
    (before,) = run(proto, feeds(proto))
    assert float_biases(proto) == 1
    assert operators(proto).count("DequantizeLinear") == 2
    np.testing.assert_allclose(run(proto, feeds(proto))[0], before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["conv", "gemm", "gemm, turned"])
@pytest.mark.parametrize("channels", [True, False])
def test_biases_get_the_unit_in_which_the_engine_adds_them(name: str, channels: bool) -> None:
    """ONNX Runtime adds the integers as they are: in another unit its answer was another one."""
    proto = layer(name, weights_of(name, 4), bias="other", channels=channels)
    (before,) = run(proto, feeds(proto))
    assert integer_biases(proto) == 1
    (after,) = run(proto, feeds(proto))
    assert sqnr_db(before, after) > 60
    (fused,) = run(proto, feeds(proto), optimize=True)
    assert sqnr_db(before, fused) > 60
    assert integer_biases(proto) == 0


@pytest.mark.parametrize("bias", ["int32", "float"])
def test_biases_in_that_unit_and_in_float_stay(bias: str) -> None:
    assert integer_biases(layer("conv", weights_of("conv", 3), bias=bias)) == 0


def test_weights_that_two_layers_share_are_left() -> None:
    proto = layer("matmul", weights_of("matmul", 1))
    proto.graph.node.append(onnx.helper.make_node("MatMul", ["d", "w"], ["z"], name="again"))
    assert list(stored_layers(View(proto))) == []
