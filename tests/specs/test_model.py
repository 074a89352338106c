"""What a tensor's shape says of its batch."""

from __future__ import annotations

import pytest

from edgepack.specs.model import UNNAMED, TensorSpec


@pytest.mark.parametrize(
    ("shape", "batched"),
    [
        (("N", 3), True),
        ((UNNAMED,), True),
        ((1, "N"), False),
        (("*frames", 40), False),
        (("*", 40), False),
        ((1, 3), False),
        ((), False),
    ],
)
def test_a_free_first_axis_is_the_batch_unless_it_is_a_length(shape: tuple[int | str, ...], batched: bool) -> None:
    assert TensorSpec("x", "float32", shape).batched is batched
