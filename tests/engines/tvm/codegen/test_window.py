"""The geometry of convolutions, against what is counted position by position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.engines.tvm.codegen.window import Window, patches


def positions(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """How many starts there are at which the last value of the kernel lies in the padded input."""
    padded = size + before + after
    return sum(start + dilation * (kernel - 1) < padded for start in range(0, padded, stride))


@given(
    size=st.tuples(st.integers(6, 20), st.integers(6, 20)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_the_output_has_as_many_positions_as_fit(size, kernel, strides, dilation, padding) -> None:
    top, left, bottom, right = padding
    expected = (
        positions(size[0], kernel[0], strides[0], dilation[0], top, bottom),
        positions(size[1], kernel[1], strides[1], dilation[1], left, right),
    )
    assert Window(kernel, strides, padding, dilation, 1).output(*size) == expected


@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "pointwise"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0), True),
        ((1, 1), (2, 1), (0, 0, 0, 0), False),
        ((1, 1), (1, 1), (0, 0, 1, 0), False),
        ((1, 3), (1, 1), (0, 0, 0, 0), False),
    ],
)
def test_pointwise_is_one_output_of_each_input_position(kernel, strides, padding, pointwise: bool) -> None:
    assert Window(kernel, strides, padding, (1, 1), 1).pointwise == pointwise


@pytest.mark.parametrize(
    ("kernel", "strides", "dilation", "groups", "patchable"),
    [
        ((3, 3), (1, 1), (1, 1), 1, True),
        ((3, 1), (1, 1), (1, 1), 1, False),
        ((3, 3), (1, 2), (1, 1), 1, False),
        ((3, 3), (1, 1), (2, 1), 1, False),
        ((3, 3), (1, 1), (1, 1), 2, False),
    ],
)
def test_patches_are_of_neighbours_under_a_kernel_of_three(kernel, strides, dilation, groups, patchable: bool) -> None:
    assert Window(kernel, strides, (1, 1, 1, 1), dilation, groups).patchable == patchable


@given(st.integers(1, 100))
def test_patches_cover_every_output_and_no_whole_patch_more(size: int) -> None:
    assert size <= 2 * patches(size) < size + 2
