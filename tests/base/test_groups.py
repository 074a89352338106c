"""Groups within a budget: nothing is lost, the order stays, and only an item that is too large alone exceeds it."""

from __future__ import annotations

import pytest

from edgepack.base.groups import within


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([3, 3, 4], [[3, 3, 4]]),
        ([3, 3, 5], [[3, 3], [5]]),
        ([30, 1, 1], [[30], [1, 1]]),
        ([1, 30, 1], [[1], [30], [1]]),
        ([0, 0, 10, 0], [[0, 0, 10, 0]]),
    ],
)
def test_groups_stay_within_the_budget(sizes: list[int], groups: list[list[int]]) -> None:
    assert list(within(((size, size) for size in sizes), 10)) == groups
