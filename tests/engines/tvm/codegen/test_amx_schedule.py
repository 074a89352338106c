"""Convolutions and products by AMX: exact on this host where it has it, and the instructions are there."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codegen_models import host_machine, import_model, run_ours
from integer_models import assembly, convolved, quantized, reference

from edgepack.engines.tvm.codegen.amx import RULE
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import Machine, machine

pytestmark = pytest.mark.slow

VNNI = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
AMX = (*VNNI, "amx_tile", "amx_int8")


def here(threads: int = 1) -> Machine:
    of = host_machine(threads)
    if not of.has_amx:
        pytest.skip("this host, or its Linux, has no AMX")
    return of


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("shape", "weights", "stride", "pad"),
    [
        ([1, 64, 16, 16], (64, 64, 1, 1), 1, 0),  # whole tiles of everything
        ([2, 68, 15, 13], (72, 68, 1, 1), 1, 0),  # a chunk that begins earlier, groups over the ends of rows
        ([1, 33, 11, 19], (7, 33, 1, 1), 1, 0),  # fewer channels than a tile has, the last group begins earlier
        ([1, 3, 33, 31], (32, 3, 3, 3), 2, 1),  # three places of four channels in one chunk
        ([2, 24, 9, 19], (40, 24, 3, 3), 1, 1),
        ([1, 72, 20, 9], (20, 72, 5, 5), 2, 2),
    ],
)
def test_convolution_is_exact(
    shape: list[int], weights: tuple[int, ...], stride: int, pad: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = here(threads)
    monkeypatch.setattr("edgepack.engines.tvm.codegen.threads.LAUNCH_CYCLES", 0)  # these are too small to be divided
    random = np.random.default_rng(0)
    integers, scales = random.integers(-127, 128, weights).astype(np.int8), random.uniform(0.001, 0.01, weights[0])
    integers[0] = 127  # with inputs of 255 all that saturates would
    proto, bias = quantized("Conv", shape, integers, scales, 131, relu=True, strides=[stride] * 2, pads=[pad] * 4)
    x = random.integers(0, 256, shape).astype(np.float32)
    x[..., :4] = 255
    ours, lowered = run_ours(proto, {"x": x}, of, precision="int8")
    sums = convolved(x, integers, 131, stride, pad, 1) + bias[None, :, None, None]
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=True, axis=1))
    assert RULE in lowered.rules.values()


@pytest.mark.parametrize(("rows", "terms", "outputs"), [(197, 100, 40), (48, 256, 64), (17, 64, 20)])
def test_product_is_exact(rows: int, terms: int, outputs: int) -> None:
    of = here()
    random = np.random.default_rng(1)
    integers = random.integers(-127, 128, (terms, outputs)).astype(np.int8)
    scales = random.uniform(0.001, 0.01, outputs)
    proto, bias = quantized("MatMul", [rows, terms], integers, scales, 7, relu=False)
    x = random.integers(0, 256, (rows, terms)).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, of, precision="int8")
    sums = (x.astype(np.int64) - 7) @ integers.astype(np.int64) + bias
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=False, axis=1))
    assert RULE in lowered.rules.values()


def test_places_that_lie_apart_are_exact() -> None:
    of = here()
    random = np.random.default_rng(2)
    integers, scales = random.integers(-127, 128, (32, 16, 3, 3)).astype(np.int8), np.full(32, 0.004)
    proto, bias = quantized("Conv", [1, 16, 14, 18], integers, scales, 9, relu=False, dilations=[2, 2])
    spread = np.zeros((32, 16, 5, 5), np.int8)
    spread[:, :, ::2, ::2] = integers
    x = random.integers(0, 256, (1, 16, 14, 18)).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, of, precision="int8")
    sums = convolved(x, spread, 9, 1, 0, 1) + bias[None, :, None, None]
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=False, axis=1))
    assert RULE in lowered.rules.values()


@pytest.mark.parametrize("threads", [1, 2])
def test_each_thread_sets_the_registers_up_and_frees_them(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.engines.tvm.codegen.threads.LAUNCH_CYCLES", 0)
    integers = np.ones((32, 64, 1, 1), np.int8)
    proto, _ = quantized("Conv", [1, 64, 16, 16], integers, np.full(32, 0.01), 3, relu=True)
    text = assembly(proto, machine("x86_64", AMX, threads=threads))
    (body,) = (body for body in _functions(text) if "tdpbusd" in body)
    assert [len(re.findall(rf"\b{name}\b", body)) for name in ("ldtilecfg", "tilerelease", "tdpbusd")] == [1, 1, 4]
    assert ("ParallelLaunch" in text) == (threads > 1)
    assert "ParallelLaunch" not in body  # it is what each thread runs


def test_without_amx_the_same_model_is_of_vectors() -> None:
    integers = np.ones((32, 64, 1, 1), np.int8)
    proto, _ = quantized("Conv", [1, 64, 16, 16], integers, np.full(32, 0.01), 3, relu=True)
    text = assembly(proto, machine("x86_64", VNNI))
    assert "vpdpbusd" in text
    assert "%tmm" not in text


def test_sums_of_few_terms_are_left_to_vectors() -> None:
    integers = np.ones((32, 4, 1, 1), np.int8)
    proto, _ = quantized("Conv", [1, 4, 20, 20], integers, np.full(32, 0.01), 3, relu=False)
    rules = lower(import_model(proto), machine("x86_64", AMX), "int8").rules.values()
    assert "flat vpdpbusd" in rules
    assert RULE not in rules


def _functions(text: str) -> list[str]:
    """Return the body of each function of an assembly, those that threads run too."""
    return re.split(r"^(?:\.L__tvm_parallel_lambda[\w.]*|\w[\w.]*):", text, flags=re.MULTILINE)[1:]
