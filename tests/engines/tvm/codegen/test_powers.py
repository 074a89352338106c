"""Powers by a constant, against double precision and C's answers at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from codegen_models import host_machine, import_model, model, run_ours, run_reference
from onnx import helper

from edgepack.engines.tvm.codegen.lower import lower

pytestmark = pytest.mark.slow

EDGES = np.float32([0, -0.0, np.inf, np.nan, 1, -1, -2.5, 1e-45, -1e-45, 1.17549435e-38, 3.4028235e38])
PRODUCTS = (1, 2, 3, 5, 8, 0.25, 0.5, 0.75, 1.5, 2.75, -1, -2, -3, -0.25, -0.5, -0.75, -2.5)
OTHERS = (1.7, 0.1, 1 / 3, -1.7, -0.45, 2.2, 7.3, 9, 12, 33, -9, -10, 40.5, 1e-3, 1000.0)


def powers(exponent: float | np.ndarray, x: np.ndarray) -> tuple[np.ndarray, str]:
    """Return our powers, and the text of the code."""
    constants = {"p": np.asarray(exponent, np.float32)}
    proto = model([helper.make_node("Pow", ["x", "p"], ["y"])], {"x": list(x.shape)}, constants, ("y",))
    ours, lowered = run_ours(proto, {"x": x})
    np.testing.assert_array_equal(np.isnan(ours[0]), np.isnan(run_reference(proto, {"x": x})[0]))
    return ours[0], str(lowered.module.script())


@pytest.mark.parametrize("exponent", [*PRODUCTS, *OTHERS])
def test_power_within_units_in_the_last_place(exponent: float) -> None:
    patterns = np.arange(1, 0x7F800000, 20011, dtype=np.int32).view(np.float32)  # subnormal numbers among them
    near = np.concatenate([np.linspace(0.4, 2.1, 40011), np.linspace(0, 20, 20011)])
    x = np.concatenate([EDGES, patterns, -patterns[::7], near]).astype(np.float32)[None]
    ours, text = powers(exponent, x)
    assert "T.pow(" not in text
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), np.float64(np.float32(exponent)))
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
    normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(np.float32).smallest_normal)
    most = 8 + 2 * max(abs(exponent) - 8, 0)
    edge = np.abs(exact) > np.finfo(np.float32).max * (1 - 2.0**-23 * most)  # may be infinite, or just not
    finite = normal & ~edge
    assert np.count_nonzero(finite) > 100
    assert (np.abs(ours[finite] - exact[finite]) / unit[finite]).max() <= most
    np.testing.assert_array_equal(ours[~np.isfinite(rounded) & ~edge], rounded[~np.isfinite(rounded) & ~edge])
    endless = np.isinf(exact) | (np.abs(exact) > 2.0**129)
    np.testing.assert_array_equal(ours[endless], rounded[endless])
    small = np.isfinite(exact) & (np.abs(exact) < np.finfo(np.float32).smallest_normal)
    assert np.abs(ours[small] - exact[small]).max(initial=0) <= np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize("exponent", [*PRODUCTS, *OTHERS, 1e9])
def test_edges_are_those_of_the_reference(exponent: float) -> None:
    """With their signs: of zeros, of infinities, and of odd powers."""
    x = np.float32([[0, -0.0, np.inf, -np.inf, np.nan, 1, -1, -8, -0.5]])
    ours, _ = powers(exponent, x)
    proto = model(
        [helper.make_node("Pow", ["x", "p"], ["y"])], {"x": list(x.shape)}, {"p": np.float32(exponent)}, ("y",)
    )
    theirs = run_reference(proto, {"x": x})[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    zeros = ours == 0
    np.testing.assert_array_equal(np.signbit(ours[zeros]), np.signbit(theirs[zeros]))


def test_the_zeroth_power_is_1_of_all() -> None:
    np.testing.assert_array_equal(powers(0, EDGES[None])[0], np.ones((1, len(EDGES)), np.float32))


def test_exponents_that_are_not_one_number_keep_the_library() -> None:
    exponents = np.float32([1, 2, 0.5, -3, 0, 7])
    x = np.abs(np.random.default_rng(0).standard_normal((4, 6))).astype(np.float32)
    ours, text = powers(exponents, x)
    np.testing.assert_allclose(ours, x.astype(np.float64) ** exponents, rtol=1e-5)
    assert "T.pow(" in text
    wider = model(
        [helper.make_node("Pow", ["x", "p"], ["y"])], {"x": [6]}, {"p": np.full((1, 1), 2, np.float32)}, ("y",)
    )
    assert lower(import_model(wider), host_machine(), "fp32").rules  # of more axes than the base


def test_a_window_over_channels_has_no_call_of_the_library() -> None:
    """LRN: a mean over channels, to the power of 3/4."""
    x = np.random.default_rng(0).standard_normal((2, 7, 9, 11)).astype(np.float32)
    proto = model([helper.make_node("LRN", ["x"], ["y"], size=5)], {"x": list(x.shape)}, {}, ("y",))
    ours, lowered = run_ours(proto, {"x": x})
    np.testing.assert_allclose(ours[0], run_reference(proto, {"x": x})[0], rtol=1e-5)
    assert "T.pow(" not in str(lowered.module.script())
