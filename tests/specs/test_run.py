"""What a comparison of outputs says of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgepack.specs.run import OutputDistance

SAME = OutputDistance("y", None, 1.0, 0.0, 40.0, True)


@pytest.mark.parametrize(
    ("changes", "identical"),
    [
        ({}, True),
        ({"sqnr_db": 60.0}, True),
        ({"mismatch": 0.0}, True),
        ({"max_abs": 1e-30}, False),
        ({"mismatch": 0.01}, False),
        ({"nonfinite": 1}, False),
        ({"passed": False}, False),
    ],
)
def test_outputs_are_identical_where_no_value_differs(changes: dict[str, Any], identical: bool) -> None:
    assert dataclasses.replace(SAME, **changes).identical == identical
