"""Functions of one value, and of rows, against double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from codegen_models import host_machine, model, run_ours
from onnx import helper

pytestmark = pytest.mark.slow

SPECIAL = np.float32([0, -0.0, np.inf, -np.inf, np.nan, 88.7, 89.5, -87.4, -100, -103.9, 1e-30, 3e38, -3e38])
# Units in the last place. erf and tanh: the rational functions themselves are within 1.1, their float32 arithmetic adds
# the rest (6.2 for erf in numpy's float32). sigmoid: a result below the smallest normal number may become 0.
FUNCTIONS = {
    "Exp": (np.exp, 2), "Tanh": (np.tanh, 6), "Erf": (np.vectorize(math.erf), 8),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 4), "Sinh": (np.sinh, 5), "Cosh": (np.cosh, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_within_units_in_the_last_place(name: str) -> None:
    function, most = FUNCTIONS[name]
    x = np.concatenate([SPECIAL, np.linspace(-104, 89, 20011), np.linspace(-5, 5, 20000)]).astype(np.float32)[None]
    proto = model([helper.make_node(name, ["x"], ["y"])], {"x": list(x.shape)}, {}, ("y",))
    ours, _ = run_ours(proto, {"x": x})
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
        rounded = exact.astype(np.float32)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(ours[0][~finite], rounded[~finite])
        unit = np.spacing(np.abs(rounded[finite])).astype(np.float64)
        unit = np.maximum(unit, np.finfo(np.float32).smallest_normal * (1.0 if name == "Sigmoid" else 2.0**-22))
        error = np.abs(ours[0][finite] - exact[finite]) / unit
    assert error.max() <= most


def test_log_of_every_magnitude() -> None:
    edges = np.float32([0, -0.0, -1e-45, -1, -np.inf, np.inf, np.nan, 1, 1e-45, 1.17549435e-38, 3.4028235e38])
    patterns = np.arange(1, 0x7F800000, 20011, dtype=np.int32).view(np.float32)  # subnormal numbers among them
    x = np.concatenate([edges, patterns, np.linspace(0.4, 2.1, 40011)]).astype(np.float32)[None]
    proto = model([helper.make_node("Log", ["x"], ["y"])], {"x": list(x.shape)}, {}, ("y",))
    ours, _ = run_ours(proto, {"x": x})
    with np.errstate(all="ignore"):
        exact = np.log(x.astype(np.float64))
    rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    assert np.count_nonzero(finite & (x < np.finfo(np.float32).smallest_normal)) > 400
    np.testing.assert_array_equal(ours[0][~finite], rounded[~finite])
    error = np.abs(ours[0][finite] - exact[finite]) / np.spacing(np.abs(rounded[finite])).astype(np.float64)
    assert error.max() <= 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("axis", "shape"), [(-1, [3, 90, 128]), (1, [2, 48, 400]), (-1, [4, 7])])
def test_softmax(axis: int, shape: list[int], threads: int) -> None:
    x = np.random.default_rng(0).normal(0, 20, shape).astype(np.float32)
    proto = model([helper.make_node("Softmax", ["x"], ["y"], axis=axis)], {"x": shape}, {}, ("y",))
    ours, lowered = run_ours(proto, {"x": x}, host_machine(threads))
    power = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    np.testing.assert_allclose(ours[0], power / power.sum(axis, keepdims=True), rtol=1e-5, atol=1e-37)
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


@pytest.mark.parametrize(("axis", "shape"), [(-1, [3, 90, 128]), (1, [2, 48, 400]), (-1, [4, 7])])
def test_log_softmax(axis: int, shape: list[int]) -> None:
    x = np.random.default_rng(0).normal(0, 20, shape).astype(np.float32)
    proto = model([helper.make_node("LogSoftmax", ["x"], ["y"], axis=axis)], {"x": shape}, {}, ("y",))
    ours, lowered = run_ours(proto, {"x": x})
    below = x.astype(np.float64) - x.max(axis, keepdims=True)
    exact = below - np.log(np.exp(below).sum(axis, keepdims=True))
    np.testing.assert_allclose(ours[0], exact, rtol=1e-6, atol=1e-6)
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]
    text = str(lowered.module.script())
    assert "stored_log" in text  # of each row once
    assert "T.log(" not in text


def test_layer_norm_where_the_mean_is_large() -> None:
    """A difference of two sums of squares loses everything here."""
    x = (1e4 + np.random.default_rng(0).standard_normal((6, 96))).astype(np.float32)
    weights = {"g": np.ones(96, np.float32), "b": np.zeros(96, np.float32)}
    node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1, epsilon=1e-5)
    ours, _ = run_ours(model([node], {"x": [6, 96]}, weights, ("y",)), {"x": x})
    wide = x.astype(np.float64)
    exact = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(ours[0], exact, atol=5e-3)
