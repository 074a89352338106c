"""Depthwise convolutions of bytes are computed four rows at a time, and exactly."""

from __future__ import annotations

import re

import numpy as np
import pytest
from codegen_models import host_machine, run_ours
from integer_models import assembly, convolved, quantized, reference

from edgepack.engines.tvm.codegen.columns import convolution, pack
from edgepack.engines.tvm.codegen.intrinsics import multiplies_activations
from edgepack.engines.tvm.codegen.machine import Machine, machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.window import Window
from edgepack.engines.tvm.codegen.workload import Choice
from edgepack.specs.types import Array

AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")


def test_rows_come_in_fours_and_missing_ones_weigh_zero() -> None:
    weights = np.arange(1, 2 * 5 * 3 + 1, dtype=np.int8).reshape(2, 5, 3, 1)
    packed = pack(weights)
    assert packed.shape == (2, 3, 2, 4)
    for channel, row, column in np.ndindex(2, 5, 3):
        assert packed[row // 4, column, channel, row % 4] == weights[channel, row, column, 0]
    assert not packed[1, :, :, 1:].any()


def plain_loops(x: Array, weights: Array, window: Window) -> Array:
    """Run the expression as it stands, with one loop after another."""
    import tvm
    from tvm import te

    arrays = [x, pack(weights)]
    tensors = [te.placeholder(array.shape, str(array.dtype), name=f"in{n}") for n, array in enumerate(arrays)]
    output = convolution(Choice(Blocking(1, 3, 1, 4, False)), window, "none")(*tensors)
    code = tvm.compile(tvm.IRModule({"main": te.create_prim_func([*tensors, output])}), target="llvm")
    result = tvm.runtime.tensor(np.zeros([int(size) for size in output.shape], np.int32))
    code["main"](*(tvm.runtime.tensor(array) for array in arrays), result)
    return np.asarray(result.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [((3, 3), 1, 1), ((5, 2), 2, 1), ((2, 3), 1, 2)])
def test_bytes_below_zero_leave_those_beside_them_in_the_word_alone(
    dtype: str, kernel: tuple[int, int], stride: int, dilation: int
) -> None:
    """x86 multiplies uint8 by int8, ARM int8 by int8."""
    random, limits = np.random.default_rng(2), np.iinfo(dtype)
    x = random.integers(limits.min, limits.max + 1, (2, 9, 8, 4)).astype(dtype)
    weights = random.integers(-128, 128, (4, *kernel, 1)).astype(np.int8)
    window = Window(kernel, (stride, stride), (0, 0, 0, 0), (dilation, dilation), 4)
    found = plain_loops(x, weights, window)
    sums = np.zeros(found.shape, np.int64)
    for row, column in np.ndindex(*kernel):
        y, z = row * dilation, column * dilation
        part = x[
            :, y : y + (found.shape[1] - 1) * stride + 1 : stride, z : z + (found.shape[2] - 1) * stride + 1 : stride
        ]
        sums += part.astype(np.int64) * weights[:, row, column, 0]
    np.testing.assert_array_equal(found, sums)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "size"),
    [(24, (3, 3), 1, (9, 11)), (16, (5, 5), 2, (13, 8)), (8, (1, 7), 1, (4, 9)), (4, (9, 2), 1, (12, 20))],
)
def test_sums_are_exact(channels: int, kernel: tuple[int, int], stride: int, size: tuple[int, int]) -> None:
    """Windows of one, two and three fours of rows, and rows of a length that tiles do not divide."""
    random = np.random.default_rng(0)
    integers = random.integers(-127, 128, (channels, 1, *kernel)).astype(np.int8)
    scales = random.uniform(0.001, 0.01, channels)
    shape = [2, channels, *size]
    proto, bias = quantized(
        "Conv", shape, integers, scales, 131, relu=True, strides=[stride] * 2, pads=[1] * 4, group=channels
    )
    x = random.integers(0, 256, shape).astype(np.float32)
    ours, lowered = run_ours(proto, {"x": x}, precision="int8")
    sums = convolved(x, integers, 131, stride, 1, channels) + bias[None, :, None, None]
    np.testing.assert_array_equal(ours[0], reference(sums, scales, relu=True, axis=1))
    assert any(rule.startswith("columns ") for rule in lowered.rules.values()) == multiplies_activations(host_machine())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "instruction", "others"),
    [
        (machine("x86_64", AVX512), "vpdpbusd", "vcvtdq2ps"),
        (machine("x86_64", ("avx2", "fma", "avx_vnni")), "vpdpbusd", "vcvtdq2ps"),
        (machine("aarch64", ("asimddp",)), "sdot", "scvtf"),
    ],
)
def test_a_vector_of_sums_takes_three_instructions(of: Machine, instruction: str, others: str) -> None:
    """A window of 3x3 has three columns; integers become floats once for each sum, not for each of its terms."""
    integers = np.random.default_rng(1).integers(-127, 128, (16, 1, 3, 3)).astype(np.int8)
    proto, _ = quantized("Conv", [1, 16, 10, 10], integers, np.full(16, 0.01), 3, relu=True, group=16)
    text = assembly(proto, of)
    code = {name: len(re.findall(rf"\b{name}\b", text)) for name in (instruction, others)}
    assert code[instruction] > 0
    assert code[others] <= code[instruction]
