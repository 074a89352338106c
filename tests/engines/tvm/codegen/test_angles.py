"""Sine, cosine and tangent of every magnitude, against double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from codegen_models import model, run_ours
from onnx import helper

pytestmark = pytest.mark.slow

FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "Sin": (np.sin, 3),
    "Cos": (np.cos, 3),
    "Tan": (np.tan, 5),
}


def numbers() -> np.ndarray:
    """Return every magnitude, subnormal numbers and all exponents among them, and what lies next to quarter turns."""
    patterns = np.arange(1, 0x7F800000, 20011, dtype=np.int32).view(np.float32)
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    turns = (np.arange(1, 20001) * (np.pi / 2)).astype(np.float32)
    # The float32 number that is nearest to a multiple of pi / 2, relative to its size (Muller, Elementary Functions).
    nearest = np.float32([16367173 * 2.0**72])
    sizes = np.concatenate(
        [patterns, powers, turns, np.nextafter(turns, np.float32(0)), nearest, np.linspace(0, 30, 20011)]
    )
    return np.concatenate([sizes, -sizes]).astype(np.float32)[None]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_within_units_in_the_last_place(name: str) -> None:
    function, most = FUNCTIONS[name]
    x = numbers()
    ours, lowered = run_ours(model([helper.make_node(name, ["x"], ["y"])], {"x": list(x.shape)}, {}, ("y",)), {"x": x})
    exact = function(x.astype(np.float64))
    unit = np.maximum(np.spacing(np.abs(exact).astype(np.float32)), np.float32(2.0**-149)).astype(np.float64)
    assert (np.abs(ours[0] - exact) / unit).max() <= most
    assert f"T.{name.lower()}(" not in str(lowered.module.script())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_angle_and_zeros(name: str) -> None:
    x = np.float32([[np.inf, -np.inf, np.nan, 0.0, -0.0]])
    ours, _ = run_ours(model([helper.make_node(name, ["x"], ["y"])], {"x": list(x.shape)}, {}, ("y",)), {"x": x})
    assert np.isnan(ours[0][0, :3]).all()
    np.testing.assert_array_equal(ours[0][0, 3:], [1, 1] if name == "Cos" else [0, 0])
    assert name == "Cos" or np.signbit(ours[0][0, 3:]).tolist() == [False, True]
