"""What all kinds of sources share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.data.source import backwards, place


def test_a_sample_is_named_by_its_row() -> None:
    assert place(0, "data.npz") == "sample 0 of data.npz"


@pytest.mark.parametrize(
    ("indices", "again"), [([], False), ([5], False), ([0, 1, 7], False), ([0, 0], True), ([3, 2], True)]
)
def test_a_source_begins_again_where_the_order_does_not_rise(indices: list[int], again: bool) -> None:
    assert backwards(indices) == again


@given(st.lists(st.integers(0, 50), unique=True))
def test_sorted_samples_are_read_in_one_pass(indices: list[int]) -> None:
    assert not backwards(sorted(indices))
    assert backwards(sorted(indices, reverse=True)) == (len(indices) > 1)
