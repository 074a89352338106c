"""Activations around zero: what fits still fits, what the type clipped is still clipped."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imported_models import operators, run
from onnx import numpy_helper

from edgepack.graph.clean.view import View
from edgepack.quantize.imported.activations import activations, centre


def pair(scale: float, zero: int, kind: str) -> onnx.ModelProto:
    """Return a tensor that is quantized and dequantized."""
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> g (float[64] x) => (float[64] y) {
        s = Neg(x)
        q = QuantizeLinear(s, scale, zero)
        y = DequantizeLinear(q, scale, zero) }""")
    arrays = {"scale": np.float32(scale), "zero": np.asarray(zero, kind)}
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    return proto


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(["uint8", "int8"]), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_values_within_the_old_range_move_by_half_a_new_step_at_most(kind: str, share: float, seed: int) -> None:
    limits = np.iinfo(kind)
    zero = int(limits.min + share * (limits.max - limits.min))
    proto = pair(0.02, zero, kind)
    low, high = ((limit - zero) * np.float32(0.02) for limit in (limits.min, limits.max))
    feeds = {"x": -np.random.default_rng(seed).uniform(low - 2, high + 2, 64).astype(np.float32)}
    changed, coarser = centre(proto)
    assert changed == int(kind == "uint8" or zero != 0)
    assert 1.0 <= coarser <= 2.02
    (found,) = run(proto, feeds)
    # a bound below zero of the old type may be passed, by what is not zero's own
    kept = np.clip(-feeds["x"], low if low == 0 else -np.inf, np.inf)
    inside = (kept >= low) & (kept <= high)
    assert np.abs(found - kept)[inside].max(initial=0) <= 0.02 * coarser / 2 + 1e-5


def test_what_clipped_at_zero_has_a_relu() -> None:
    proto = pair(0.02, 0, "uint8")
    centre(proto)
    assert operators(proto) == ["Neg", "Relu", "QuantizeLinear", "DequantizeLinear"]
    assert run(proto, {"x": np.full(64, 5, np.float32)})[0].min() == 0


def test_around_zero_already_stays() -> None:
    proto = pair(0.02, 0, "int8")
    before = proto.SerializeToString()
    assert centre(proto) == (0, 1.0)
    assert proto.SerializeToString() == before


def test_integers_that_leave_the_graph_are_no_activation() -> None:
    proto = pair(0.02, 3, "uint8")
    proto.graph.output.append(onnx.helper.make_tensor_value_info("q", onnx.TensorProto.UINT8, [64]))
    assert list(activations(View(proto))) == []


@pytest.mark.parametrize(("zero", "kind", "magnitude"), [(0, "uint8", 255), (128, "uint8", 128), (-100, "int8", 227)])
def test_the_magnitude_is_the_larger_end(zero: int, kind: str, magnitude: int) -> None:
    (one,) = activations(View(pair(0.5, zero, kind)))
    assert one.magnitude == magnitude * 0.5
