"""Quantized convolutions and products are computed in integers, exactly, by the instructions that the machine has."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codegen_models import host_machine, import_model, model, run_ours
from integer_models import (
    W_SCALE,
    X_SCALE,
    Y_SCALE,
    assembly,
    convolved,
    products_of_activations,
    quantized,
    reference,
    requantized,
)
from onnx import helper, numpy_helper

from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine

pytestmark = pytest.mark.slow

AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl")
MACHINES = {
    "vpdpbusd": machine("x86_64", (*AVX512, "avx512_vnni")),
    "vpdpbusd of 256 bits": machine("x86_64", ("avx2", "fma", "avx_vnni")),
    "vpmaddubsw": machine("x86_64", AVX512),
    "vpmaddubsw of 256 bits": machine("x86_64", ("avx2", "fma")),
    "sdot": machine("aarch64", ("asimddp",)),
    "smmla": machine("aarch64", ("asimddp", "i8mm")),
}


@pytest.mark.parametrize(
    ("shape", "weights", "stride", "pad", "groups", "relu"),
    [
        ([1, 8, 7, 9], (16, 8, 3, 3), 1, 1, 1, True),
        ([2, 16, 6, 5], (24, 16, 1, 1), 1, 0, 1, False),
        ([1, 3, 9, 9], (32, 3, 3, 3), 2, 1, 1, True),
        ([1, 10, 5, 5], (7, 10, 1, 1), 1, 0, 1, False),
        ([1, 16, 8, 8], (16, 1, 3, 3), 1, 1, 16, True),
        ([1, 1, 9, 9], (16, 1, 5, 5), 2, 2, 1, False),
        ([1, 4, 6, 6], (16, 4, 3, 3), 1, 0, 1, False),
    ],
)  # fmt: skip
def test_convolution_is_exact(
    shape: list[int], weights: tuple[int, ...], stride: int, pad: int, groups: int, relu: bool
) -> None:
    random = np.random.default_rng(0)
    integers = random.integers(-127, 128, weights).astype(np.int8)
    scales = random.uniform(0.001, 0.01, weights[0])
    zero = 131
    proto, bias = quantized(
        "Conv", shape, integers, scales, zero, relu=relu, strides=[stride] * 2, pads=[pad] * 4, group=groups
    )
    x = random.integers(0, 256, shape).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, precision="int8")
    sums = convolved(x, integers, zero, stride, pad, groups) + bias[None, :, None, None]
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=relu, axis=1))
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


@pytest.mark.parametrize("name", [name for name, of in MACHINES.items() if of.arch == "x86_64"])
def test_product_is_exact_on_each_machine_that_this_host_can_be(name: str) -> None:
    of = MACHINES[name]
    if not set(of.isa) <= set(host_machine().isa):
        pytest.skip(f"this host lacks {', '.join(sorted(set(of.isa) - set(host_machine().isa)))}")
    random = np.random.default_rng(1)
    integers = random.integers(-64, 65, (22, 40)).astype(np.int8)  # no two of them saturate together
    scales = random.uniform(0.001, 0.01, 40)
    proto, bias = quantized("MatMul", [5, 22], integers, scales, 7, relu=False)
    x = random.integers(0, 256, (5, 22)).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, of, precision="int8")
    sums = (x.astype(np.int64) - 7) @ integers.astype(np.int64) + bias
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=False, axis=1))
    assert f"flat {name.split(maxsplit=1)[0]}" in lowered.rules.values()


@pytest.mark.parametrize("name", list(MACHINES))
def test_the_machine_code_has_the_instruction(name: str) -> None:
    random = np.random.default_rng(1)
    integers = random.integers(-64, 65, (32, 16, 3, 3)).astype(np.int8)
    proto, _ = quantized(
        "Conv", [1, 16, 8, 8], integers, random.uniform(0.001, 0.01, 32), 3, relu=True, pads=[1, 1, 1, 1]
    )
    text = assembly(proto, MACHINES[name])
    assert len(re.findall(rf"\b{name.split(maxsplit=1)[0]}\b", text)) >= 8
    if MACHINES[name].arch == "x86_64":
        assert ("%zmm" in text) == (MACHINES[name].vector_bits == 512)
        # What AVX-VNNI has is encoded otherwise than the same of AVX-512, which a processor with the former may lack.
        assert ("{vex}" in text) == (name == "vpdpbusd of 256 bits")


@pytest.mark.parametrize("name", ["vpdpbusd", "vpdpbusd of 256 bits"])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize(
    ("left", "right", "zeros"),
    [
        ([2, 3, 7, 16], [2, 3, 16, 32], (131, 117)),
        ([4, 9, 8], [4, 8, 20], (0, 128)),
        ([1, 2, 5, 10], [1, 2, 10, 7], (3, 0)),
        ([5, 22], [22, 40], (255, 1)),
        ([2, 64, 64], [2, 64, 64], (0, 255)),
    ],
)
def test_a_product_of_two_activations_is_exact(
    left: list[int], right: list[int], zeros: tuple[int, int], end: bool, name: str
) -> None:
    of = MACHINES[name]
    if not set(of.isa) <= set(host_machine().isa):
        pytest.skip(f"this host lacks {', '.join(sorted(set(of.isa) - set(host_machine().isa)))}")
    random = np.random.default_rng(5)
    x, w = (random.integers(0, 256, shape).astype(np.float32) for shape in (left, right))
    x.flat[0], w.flat[0] = 255, 0
    proto = products_of_activations(left, right, zeros, end=end)
    (found,), lowered = run_ours(proto, {"x": x, "w": w}, of, precision="int8")
    sums = (x.astype(np.int64) - zeros[0]) @ (w.astype(np.int64) - zeros[1])
    np.testing.assert_array_equal(found, requantized(sums, end=end))
    assert "activations vpdpbusd" in lowered.rules.values()
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


@pytest.mark.parametrize("name", ["vpdpbusd", "sdot", "smmla"])
def test_the_machine_code_of_a_product_of_activations_has_the_instruction(name: str) -> None:
    proto = products_of_activations([2, 8, 16], [2, 16, 16], (131, 117), end=True)
    instruction = "sdot" if name == "smmla" else name  # no kernel puts both factors in order for it
    assert len(re.findall(rf"\b{instruction}\b", assembly(proto, MACHINES[name]))) >= 2


def test_without_an_instruction_for_it_a_product_of_activations_stays_in_float() -> None:
    of = MACHINES["vpmaddubsw of 256 bits"]
    lowered = lower(import_model(products_of_activations([2, 8, 16], [2, 16, 8], (7, 9), end=True)), of, "int8")
    assert "batched" in lowered.rules.values()
    assert not [rule for rule in lowered.rules.values() if "activations" in rule]


def test_unsafe_weights_are_not_multiplied_by_the_saturating_instruction() -> None:
    of = MACHINES["vpmaddubsw of 256 bits"]
    integers = np.full((16, 8), 127, np.int8)
    proto, bias = quantized("MatMul", [3, 16], integers, np.full(8, 0.001), 0, relu=False)
    if not set(of.isa) <= set(host_machine().isa):
        pytest.skip("this host has no AVX2")
    x = np.full((3, 16), 255, np.float32)
    ours, lowered = run_ours(proto, {"x": x}, of, precision="int8")
    sums = np.full((3, 8), 255 * 127 * 16, np.int64) + bias
    np.testing.assert_array_equal(ours[0], reference(sums, np.full(8, 0.001), relu=False, axis=1))
    assert "flat" in lowered.rules.values()


def test_weights_with_a_zero_point_are_computed_in_float() -> None:
    random = np.random.default_rng(7)
    integers = random.integers(0, 256, (12, 16)).astype(np.uint8)
    values = {
        "sx": X_SCALE, "zx": np.uint8(131), "w": integers, "sw": W_SCALE, "zw": np.uint8(120), "one": np.float32(1),
        "none": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "none"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    proto = model(nodes, {"x": [5, 12]}, {k: np.asarray(v) for k, v in values.items()}, ("y",))
    x = random.integers(0, 256, (5, 12)).astype(np.float32)
    (found,), lowered = run_ours(proto, {"x": x}, precision="int8")
    wanted = (x.astype(np.float64) - 131) @ (integers.astype(np.float64) - 120) * float(X_SCALE) * float(W_SCALE)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert "flat" in lowered.rules.values()


def test_the_bounds_of_a_clip_hold_before_rounding() -> None:
    random = np.random.default_rng(6)
    integers, scales = random.integers(-127, 128, (16, 8, 1, 1)).astype(np.int8), random.uniform(0.001, 0.01, 16)
    proto, bias = quantized("Conv", [1, 8, 6, 6], integers, scales, 131, relu=True)
    low, high = np.float32(-1), np.float32(6)
    (relu,) = (node for node in proto.graph.node if node.op_type == "Relu")
    relu.op_type = "Clip"
    for name, value in (("low", low), ("high", high)):
        relu.input.append(name)
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    x = random.integers(0, 256, (1, 8, 6, 6)).astype(np.float32)
    (found,), lowered = run_ours(proto, {"x": x}, precision="int8")
    sums = convolved(x, integers, 131, 1, 0, 1) + bias[None, :, None, None]
    factor = (X_SCALE * scales.astype(np.float32)).astype(np.float32) / Y_SCALE
    value = np.clip(sums.astype(np.float32) * factor[None, :, None, None], low / Y_SCALE, high / Y_SCALE)
    np.testing.assert_array_equal(found, np.rint(value) + 113)
    assert {found.min(), found.max()} == {113 + np.rint(low / Y_SCALE), 113 + np.rint(high / Y_SCALE)}
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


def test_bounds_and_rounding_are_in_the_function_of_the_sums() -> None:
    integers = np.ones((16, 8, 1, 1), np.int8)
    proto, _ = quantized("Conv", [1, 8, 6, 6], integers, np.full(16, 0.01), 131, relu=True)
    lowered = lower(import_model(proto), host_machine(), "int8")
    (function,) = (name for name in lowered.rules if "convolution" in name)
    assert "maximum" in function
    assert "quantize" in function


def test_a_bias_that_is_no_whole_number_of_the_products_scale_is_not_rounded_to_one() -> None:
    random = np.random.default_rng(4)
    integers, scales = random.integers(-127, 128, (16, 8, 1, 1)).astype(np.int8), random.uniform(0.001, 0.01, 16)
    factor = (X_SCALE * scales.astype(np.float32)).astype(np.float32)
    bias = ((random.integers(-50, 50, 16) + 0.5) * factor).astype(np.float32)
    values = {
        "sx": X_SCALE, "zx": np.uint8(3), "w": integers, "sw": scales.astype(np.float32), "zw": np.zeros(16, np.int8),
        "bias": bias, "one": np.float32(1), "none": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "none"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "bias"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 8, 4, 4]}, {k: np.asarray(v) for k, v in values.items()}, ("y",))
    x = random.integers(0, 256, (1, 8, 4, 4)).astype(np.float32)
    (found,), _ = run_ours(proto, {"x": x}, precision="int8")
    sums = convolved(x, integers, 3, 1, 0, 1)
    wanted = sums * factor.astype(np.float64)[None, :, None, None] + bias.astype(np.float64)[None, :, None, None]
    assert np.abs(found - wanted).max() <= 0.05 * float(factor.min())  # half a step would be 0.5


@pytest.mark.parametrize(("side", "integers"), [(21, True), (23, False)])
def test_depthwise_sums_that_float32_does_not_hold_are_not_taken_for_exact(side: int, integers: bool) -> None:
    """The largest sum is side * side * 127 * 255, and float32 holds whole numbers up to 2^24."""
    weights = np.full((8, 1, side, side), 127, np.int8)
    proto, _ = quantized("Conv", [1, 8, 32, 32], weights, np.full(8, 0.001), 0, relu=False, group=8)
    text = lower(import_model(proto), MACHINES["vpmaddubsw"], "int8").module.script()
    kind = re.search(rf"T.Buffer\(\(T.int64\({side}\), T.int64\({side}\), T.int64\(8\)\), \"(\w+)\"\)", text)
    assert kind is not None
    assert kind[1] == ("int8" if integers else "float32")


def test_activations_moved_to_int8_give_the_same_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What aarch64 multiplies, in plain loops on this host: the arithmetic is the same, the instructions are not."""
    monkeypatch.setattr("edgepack.engines.tvm.codegen.integer_pass.activation_type", lambda _: "int8")
    monkeypatch.setattr("edgepack.engines.tvm.codegen.intrinsics.dot_for", lambda *_, **__: None)
    random = np.random.default_rng(0)
    integers = random.integers(-127, 128, (16, 8, 3, 3)).astype(np.int8)
    scales = random.uniform(0.001, 0.01, 16)
    proto, bias = quantized("Conv", [1, 8, 6, 6], integers, scales, 131, relu=True, pads=[1, 1, 1, 1])
    x = random.integers(0, 256, (1, 8, 6, 6)).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, precision="int8")
    sums = convolved(x, integers, 131, 1, 1, 1) + bias[None, :, None, None]
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=True, axis=1))
    assert "window" in lowered.rules.values()
    assert 'dtype="int8"' in lowered.module.script()
    assert "uint8" not in lowered.module.script()
