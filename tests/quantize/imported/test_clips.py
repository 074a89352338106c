"""Clip between QuantizeLinear and DequantizeLinear, and what a type clips by itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imported_models import operators, run
from onnx import numpy_helper

from edgepack.graph.clean.view import View
from edgepack.quantize.imported.clips import drop_narrow_clips, float_clips, keep_clip, move_clips, never_negative


def clipped(low: int, high: int, zero: int = 0, kind: str = "int8", body: str = "s = Identity(x)") -> onnx.ModelProto:
    """Return a tensor that is quantized, clipped as integers, and dequantized."""
    proto = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]> g (float[64] x) => (float[64] y) {{
        {body}
        q = QuantizeLinear(s, scale, zero)
        c = Clip(q, low, high)
        y = DequantizeLinear(c, scale, zero) }}""")
    arrays = {"scale": np.float32(0.0173), "zero": np.asarray(zero, kind), "low": np.asarray(low, kind)}
    arrays |= {"high": np.asarray(high, kind)}
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    return proto


def values(seed: int = 0) -> dict[str, np.ndarray]:
    """Return values of which many are out of range."""
    return {"x": np.random.default_rng(seed).normal(size=64, scale=3).astype(np.float32)}


@settings(max_examples=40, deadline=None)
@given(
    bounds=st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted),
    zero=st.integers(-128, 127),
    seed=st.integers(0, 99),
)
def test_clips_in_front_change_no_value(bounds: list[int], zero: int, seed: int) -> None:
    proto = clipped(bounds[0], bounds[1], zero)
    (expected,) = run(proto, values(seed))
    assert move_clips(proto) == 1
    assert operators(proto)[-2:] == ["QuantizeLinear", "DequantizeLinear"]
    np.testing.assert_array_equal(run(proto, values(seed))[0], expected)


def test_one_as_wide_as_its_type_needs_nothing_in_its_place() -> None:
    proto = clipped(-128, 127)
    move_clips(proto)
    assert "Clip" not in operators(proto)


def test_a_bound_that_nothing_reaches_needs_nothing() -> None:
    proto = clipped(-127, 127, body="s = Relu(x)")
    (expected,) = run(proto, values())
    move_clips(proto)
    assert operators(proto) == ["Relu", "QuantizeLinear", "DequantizeLinear"]
    np.testing.assert_array_equal(run(proto, values())[0], expected)


def test_a_bound_above_zero_is_reached_by_what_is_never_negative() -> None:
    proto = clipped(5, 127, body="s = Relu(x)")
    (expected,) = run(proto, values())
    move_clips(proto)
    np.testing.assert_array_equal(run(proto, values())[0], expected)


def test_a_narrow_range_may_have_its_last_level() -> None:
    proto = clipped(-127, 127)
    (before,) = run(proto, values())
    assert drop_narrow_clips(proto) == 1
    (after,) = run(proto, values())
    assert np.abs(after - before).max() == pytest.approx(0.0173, rel=1e-5)
    assert after.min() < before.min()


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-8, 7), (-126, 127)])
def test_fewer_bits_are_not_narrow_ranges(low: int, high: int) -> None:
    assert drop_narrow_clips(clipped(low, high)) == 0


@pytest.mark.parametrize(("low", "left"), [(0, ["Relu"]), (-127, []), (3, [])])
def test_a_float_model_keeps_what_cut_at_zero(low: int, left: list[str]) -> None:
    proto = clipped(low, 127)
    assert float_clips(proto) == 1
    assert operators(proto) == ["Identity", *left, "QuantizeLinear", "DequantizeLinear"]


def test_integers_that_are_read_otherwise_too_stay() -> None:
    proto = clipped(-8, 7)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("q", onnx.TensorProto.INT8, [64]))
    assert move_clips(proto) == 0


@pytest.mark.parametrize(
    ("zero", "scale", "kept"),
    [(0, 0.02, "Relu"), (0, 6 / 255, "Clip"), (3, 0.02, None)],
    ids=["zero is the least", "from 0 to 6", "some values are below zero"],
)
def test_what_a_type_clips_is_kept(zero: int, scale: float, kept: str | None) -> None:
    proto = clipped(0, 255, zero, "uint8", body="s = Neg(x)")
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.asarray(scale, np.float32), "scale"))
    view = View(proto)
    quantize = next(view.nodes("QuantizeLinear"))
    found = keep_clip(view, quantize)
    assert (view.producers[found].op_type if found else None) == kept


@pytest.mark.parametrize(
    ("body", "known"),
    [
        ("s = Relu(x)", True),
        ("r = Relu(x) s = Transpose(r)", True),
        ("s = Neg(x)", False),
        ("r = Relu(x) s = Neg(r)", False),
        ("s = Identity(x)", False),
    ],
)
def test_what_is_never_negative_is_seen(body: str, known: bool) -> None:
    assert never_negative(View(clipped(0, 255, 0, "uint8", body=body)), "s") is known
