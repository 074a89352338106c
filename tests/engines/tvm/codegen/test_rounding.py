"""QuantizeLinear gives what a division and numpy's rounding give, for every value that could tell them apart."""

from __future__ import annotations

import numpy as np
import pytest
from codegen_models import host_machine, model, run_ours
from onnx import helper

from edgepack.engines.tvm.codegen.machine import Machine, machine

pytestmark = pytest.mark.slow

ALL_ONES = np.uint32(0x3C7FFFFF).view(np.float32)  # the significand


def quantized(x: np.ndarray, scale: np.float32, zero: int, dtype: type, of: Machine) -> np.ndarray:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "z"], ["y"]),
    ]
    values = {"s": np.asarray(scale), "z": np.asarray(dtype(zero)), "one": np.asarray(np.float32(1))}
    ours, _ = run_ours(model(nodes, {"x": list(x.shape)}, values, ("y",)), {"x": x}, of)
    return ours[0] + zero


@pytest.mark.parametrize("fma", [True, False])
@pytest.mark.parametrize(
    ("scale", "zero", "dtype"),
    [
        (0.0371, 113, np.uint8),
        (1.0, 0, np.uint8),
        (0.3, -7, np.int8),
        (float(ALL_ONES), 3, np.uint8),
        (7.7, 255, np.uint8),
    ],
)
def test_each_value_is_rounded_as_the_quotient_is(scale: float, zero: int, dtype: type, fma: bool) -> None:
    of = host_machine() if fma else machine(host_machine().arch)
    if fma and not of.has_fma:
        pytest.skip("this host has no fused multiply-add")
    step, random = np.float32(scale), np.random.default_rng(0)
    ends = np.iinfo(dtype)
    halves = ((np.arange(ends.min - zero - 3, ends.max - zero + 3) + 0.5) * float(step)).astype(np.float32)
    near = [halves]
    for way in (np.float32(np.inf), np.float32(-np.inf)):
        around = halves
        for _ in range(3):
            around = np.nextafter(around, way)
            near.append(around)
    extremes = np.array([np.inf, -np.inf, 3e38, -3e38, 1e-45, 0, -0.0], np.float32)
    spread = (random.uniform(ends.min - zero - 9, ends.max - zero + 9, 40_000) * scale).astype(np.float32)
    x = np.concatenate([*near, extremes, spread])
    x = np.resize(x, (-(-x.size // 16), 16))
    with np.errstate(over="ignore"):
        wanted = np.clip(np.rint(x / step) + np.float32(zero), ends.min, ends.max)
    np.testing.assert_array_equal(quantized(x, step, zero, dtype, of), wanted)
