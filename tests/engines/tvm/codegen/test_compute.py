"""The tensor expressions, before any schedule, give what numpy gives; a block that sums says which kernel it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.engines.tvm.codegen import compute
from edgepack.engines.tvm.codegen.compute import KERNEL, Kernel
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.window import Window
from edgepack.engines.tvm.codegen.workload import Choice

pytestmark = pytest.mark.slow

CHOICE = Choice(Blocking(1, 3, 2, 4, False))


def computed(build: compute.Build, *arrays: np.ndarray) -> np.ndarray:
    """Run an expression as it stands, with one loop after another."""
    import tvm
    from tvm import te

    tensors = [te.placeholder(array.shape, str(array.dtype), name=f"in{n}") for n, array in enumerate(arrays)]
    output = build(*tensors)
    code = tvm.compile(tvm.IRModule({"main": te.create_prim_func([*tensors, output])}), target="llvm")
    result = tvm.runtime.tensor(np.zeros([int(size) for size in output.shape], str(output.dtype)))
    code["main"](*(tvm.runtime.tensor(array) for array in arrays), result)
    return np.asarray(result.numpy())


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(*shape: int, low: int = -128, high: int = 128, dtype: str = "int8") -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, shape).astype(dtype)


@given(
    kind=st.sampled_from(["flat", "window", "depthwise", "batched", "matrix", "activations"]),
    tile=st.builds(Blocking, *[st.integers(1, 64)] * 4, st.booleans()),
    origin=st.sampled_from(["rule", "tuned", "transferred"]),
    instruction=st.sampled_from([None, "edgepack.sdot.4", "edgepack.of two words"]),
)
@settings(deadline=None)
def test_a_block_carries_its_kernel_through_tvm(kind: Any, tile: Blocking, origin: Any, instruction: Any) -> None:
    import tvm
    from tvm import te
    from tvm.s_tir import Schedule

    x = te.placeholder((4, 8), "float32")
    k = te.reduce_axis((0, 8), "k")
    said = compute.annotation(kind, Choice(tile, origin), instruction)
    function = te.create_prim_func([x, te.compute((4,), lambda m: te.sum(x[m, k], axis=k), name="sums", attrs=said)])
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = compute.kernel_of(schedule.get(schedule.get_sblock("sums")).annotations[KERNEL])
    assert found == Kernel(kind, tile, origin, instruction)
    assert type(found.tile.weights_outer) is bool


@pytest.mark.parametrize("outputs", [8, 13])
def test_packed_weights_hold_each_weight_where_the_kernel_reads_it(outputs: int) -> None:
    weights = normal(outputs, 3, 2, 5)
    packed = compute.pack_weights(weights, 4)
    assert packed.shape == (-(-outputs // 4), 3, 2, 5, 4)
    for n in range(packed.shape[0] * 4):
        expected = weights[n] if n < outputs else np.zeros((3, 2, 5))
        np.testing.assert_array_equal(packed[n // 4, ..., n % 4], expected)


def test_packed_fours_hold_four_neighbouring_inputs_beside_each_other() -> None:
    weights = whole(6, 1, 1, 8)
    packed = compute.pack_weights(weights, 4, fours=True)
    assert packed.shape == (2, 1, 1, 2, 4, 4)
    np.testing.assert_array_equal(packed[1, 0, 0, 1, 1], weights[5, 0, 0, 4:8])
    assert not packed[1, :, :, :, 2:].any()  # the last tile is not full


def test_packed_eights_hold_eight_neighbouring_inputs_beside_each_other() -> None:
    weights = whole(3, 2, 2, 8)
    packed = compute.pack_eights(weights, 4)
    assert packed.shape == (1, 4, 4, 8)
    np.testing.assert_array_equal(packed[0, 3, 2], weights[2, 1, 1])
    assert not packed[0, :, 3].any()


@pytest.mark.parametrize("channels_first", [False, True])
def test_padding_stands_around_the_picture_only(channels_first: bool) -> None:
    window = Window((3, 3), (1, 1), (1, 2, 0, 3), (1, 1), 1)
    x = normal(1, 4, 5, 2)
    widths = [(0, 0), (1, 0), (2, 3), (0, 0)]
    if channels_first:
        x, widths = normal(1, 2, 4, 5), [(0, 0), (0, 0), (1, 0), (2, 3)]
    found = computed(lambda t: compute.pad(t, window, 7, channels_first=channels_first), x)
    np.testing.assert_array_equal(found, np.pad(x, widths, constant_values=7))


@pytest.mark.parametrize("lead", [(5,), (2, 7), (1, 3, 3)])
def test_pointwise_is_a_product_of_all_positions(lead: tuple[int, ...]) -> None:
    x, weights = normal(*lead, 6), normal(11, 6, seed=1)
    packed = compute.pack_weights(weights.reshape(11, 1, 1, 6), 8)[:, 0, 0]
    np.testing.assert_allclose(computed(compute.pointwise(CHOICE, 11), x, packed), x @ weights.T, rtol=1e-5, atol=1e-5)


def direct(x: np.ndarray, weights: np.ndarray, window: Window) -> np.ndarray:
    """A convolution [n, h, w, c] with [outputs, kh, kw, inputs of a group] in plain loops."""
    top, left, bottom, right = window.padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))).astype(np.float64)
    outputs, high, wide, inputs = weights.shape
    (sy, sx), (dy, dx) = window.strides, window.dilation
    rows = (x.shape[1] - dy * (high - 1) - 1) // sy + 1
    columns = (x.shape[2] - dx * (wide - 1) - 1) // sx + 1
    total = np.zeros((x.shape[0], rows, columns, outputs))
    for o in range(outputs):
        first = o // (outputs // window.groups) * inputs
        for i in range(high):
            for j in range(wide):
                part = x[:, i * dy :: sy, j * dx :: sx, first : first + inputs][:, :rows, :columns]
                total[..., o] += part @ weights[o, i, j].astype(np.float64)
    return total


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(
    ("window", "inputs", "outputs"),
    [
        (Window((3, 2), (1, 1), (1, 0, 1, 1), (1, 1), 1), 5, 11),
        (Window((3, 3), (2, 1), (0, 2, 1, 0), (1, 2), 1), 4, 8),
        (Window((2, 2), (1, 2), (0, 0, 0, 0), (1, 1), 2), 3, 16),
    ],
)
def test_a_convolution_is_one(window: Window, inputs: int, outputs: int, channels_first: bool) -> None:
    x, weights = normal(2, 7, 8, inputs * window.groups), normal(outputs, *window.kernel, inputs, seed=1)
    given_x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channels_first else x
    build = compute.convolution(CHOICE, window, outputs, channels_first=channels_first)
    found = computed(build, given_x, compute.pack_weights(weights, CHOICE.tile.channels))
    np.testing.assert_allclose(found, direct(x, weights, window), rtol=1e-5, atol=1e-5)


def test_a_depthwise_convolution_keeps_channels_apart() -> None:
    window = Window((3, 3), (1, 2), (1, 1, 1, 0), (1, 1), 6)
    x, weights = normal(1, 5, 7, 6), normal(3, 3, 6, seed=1)
    per_output = np.moveaxis(weights, -1, 0)[..., None]
    np.testing.assert_allclose(
        computed(compute.depthwise(CHOICE, window), x, weights), direct(x, per_output, window), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("left", "right"), [((5, 6), (6, 7)), ((2, 3, 4, 6), (2, 3, 6, 8))])
def test_a_product_of_two_activations_is_one(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = normal(*left), normal(*right, seed=1)
    np.testing.assert_allclose(computed(compute.batched(CHOICE), a, b), a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("left", "right"), [((5, 8), (8, 7)), ((3, 4, 12), (3, 12, 16))])
def test_a_product_of_bytes_is_exact(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = whole(*left, low=0, high=256, dtype="uint8"), whole(*right)
    found = computed(compute.batched_bytes(CHOICE, "edgepack.any"), a, b)
    np.testing.assert_array_equal(found, a.astype(np.int32) @ b.astype(np.int32))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3)])
def test_the_matrix_kernel_sums_bytes_exactly(kernel: tuple[int, int]) -> None:
    window = Window(kernel, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    x, weights = whole(1, 4, 5, 16), whole(11, *kernel, 16)
    choice = Choice(Blocking(1, 4, 2, 4, False))
    found = computed(compute.matrix(choice, window, 11, "edgepack.any"), x, compute.pack_eights(weights, 8))
    np.testing.assert_array_equal(found, direct(x, weights, window).astype(np.int32))
