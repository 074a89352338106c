"""What follows from what in a plan."""

from __future__ import annotations

import pytest

from edgepack.specs.calibration import Derivation


@pytest.mark.parametrize(
    ("derivation", "is_copy"),
    [
        (Derivation("t", ("a",)), True),
        (Derivation("t", ("a", "b")), False),
        (Derivation("t", ("a",), low=0.0), False),
        (Derivation("t", ("a",), high=6.0), False),
    ],
)
def test_a_copy_has_one_source_and_no_bounds(derivation: Derivation, is_copy: bool) -> None:
    assert derivation.is_copy is is_copy
