"""A convolution by patches, before any schedule, gives the plain sums; NaN goes where it goes in those."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.engines.tvm.codegen import winograd
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.window import Window
from edgepack.engines.tvm.codegen.workload import Choice

LANES = 4


def computed(x: np.ndarray, weights: np.ndarray, padding: tuple[int, int, int, int], tile: Blocking) -> np.ndarray:
    """Run the expression as it stands, with one loop after another."""
    import tvm
    from tvm import te

    window = Window((3, 3), (1, 1), padding, (1, 1), 1)
    arrays = [x, winograd.pack(weights, tile.channels)]
    tensors = [te.placeholder(array.shape, "float32", name=f"in{n}") for n, array in enumerate(arrays)]
    output = winograd.convolution(Choice(tile), window, len(weights))(*tensors)
    code = tvm.compile(tvm.IRModule({"main": te.create_prim_func([*tensors, output])}), target="llvm")
    result = tvm.runtime.tensor(np.zeros([int(size) for size in output.shape], np.float32))
    code["main"](*(tvm.runtime.tensor(array) for array in arrays), result)
    return np.asarray(result.numpy())


def plain(x: np.ndarray, weights: np.ndarray, padding: tuple[int, int, int, int]) -> np.ndarray:
    """Return the sums of all nine products, in float64."""
    top, left, bottom, right = padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("byzkij,oijk->byzo", windows, weights.astype(np.float64))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(3, 8), st.integers(3, 8)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    tile=st.builds(Blocking, st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.just(LANES), st.booleans()),
)
def test_the_sums_are_those_of_nine_products(size, padding, channels, tile: Blocking) -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, *size, channels[0])).astype(np.float32)
    weights = draw.standard_normal((channels[1], 3, 3, channels[0])).astype(np.float32)
    found, wanted = computed(x, weights, padding, tile), plain(x, weights, padding)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * max(np.abs(wanted).max(), 1)


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (3, 3), (5, 5)])
def test_a_value_reaches_its_own_outputs_alone(place: tuple[int, int]) -> None:
    x = np.ones((1, 6, 6, 2), np.float32)
    x[0, *place, 1] = np.nan
    weights = np.ones((4, 3, 3, 2), np.float32)
    found = computed(x, weights, (1, 1, 1, 1), Blocking(1, 3, 1, LANES, False))
    assert np.array_equal(np.isnan(found), np.isnan(plain(x, weights, (1, 1, 1, 1))))


def test_weights_are_packed_once_for_each_tile_with_zeros_at_the_end() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 3, 3, 2)).astype(np.float32)
    packed = winograd.pack(weights, 4)
    assert packed.shape == (2, 16, 2, 4)
    # The corners of G g GT are the corners of g (equation 5: the first and last rows of G).
    corners = packed[0, [0, 3, 12, 15], 1, 2]
    assert corners.tolist() == [weights[2, i, j, 1] for i in (0, 2) for j in (0, 2)]
    assert not packed[1, :, :, 1:].any()


@pytest.mark.parametrize(("size", "padded"), [((6, 8), (8, 10)), ((5, 8), (8, 10)), ((6, 7), (8, 10))])
def test_the_padding_reaches_the_end_of_the_last_patches(size: tuple[int, int], padded: tuple[int, int]) -> None:
    """Past an odd size, what is read goes into no output, so that no value would tell."""
    from tvm import te

    window, tile = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1), Blocking(1, 3, 1, LANES, False)
    weights = winograd.pack(np.zeros((4, 3, 3, 2), np.float32), LANES)
    x, w = te.placeholder((1, *size, 2), "float32"), te.placeholder(weights.shape, "float32")
    sums = winograd.convolution(Choice(tile), window, 4)(x, w).op.input_tensors[0]
    (patched,) = (tensor for tensor in sums.op.input_tensors if tensor.op.name == "patched")
    assert tuple(int(n) for n in patched.op.input_tensors[0].shape) == (1, *padded, 2)
