"""Which 64-bit numbers 32 bits do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.engines.openvino.range32 import beyond


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([2**31], 2**31),
        ([5, -(2**31) - 1], -(2**31) - 1),
        ([-(2**63), 2**63 - 1], 2**63 - 1),
        ([2**31 - 1, -(2**31)], None),
        ([], None),
    ],
)
def test_the_ends_of_32_bits(values: list[int], found: int | None) -> None:
    assert beyond(np.array(values, np.int64), exact=True) == found


def test_unsigned_numbers_have_31_bits() -> None:
    assert beyond(np.array([2**64 - 1, 7], np.uint64), exact=True) == 2**64 - 1
    assert beyond(np.array([2**31 - 1], np.uint64), exact=True) is None


def test_what_is_no_array_of_integers_is_left_to_others() -> None:
    assert beyond([2**40], exact=True) is None
    assert beyond(np.array([1e20]), exact=False) is None


def test_float32_holds_whole_numbers_up_to_16777216() -> None:
    assert beyond(np.array([-(2**24), 2**24], np.int32), exact=False) is None
    assert beyond(np.array([2**24 + 1], np.int32), exact=False) == 2**24 + 1
    assert beyond(np.array([-(2**24) - 1, 0]), exact=False) == -(2**24) - 1
