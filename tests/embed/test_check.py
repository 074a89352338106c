"""The check ends a row whose answers are others, and lets rounding be."""

from __future__ import annotations

import pytest

from edgepack.embed.check import refuse_different
from edgepack.errors import VerificationError
from edgepack.specs.embed import EmbeddedCheck


@pytest.mark.parametrize(("samples", "same"), [(1, 0), (16, 14), (200, 195)])
def test_other_answers_are_refused(samples: int, same: int) -> None:
    with pytest.raises(VerificationError, match="others than without") as found:
        refuse_different(EmbeddedCheck({"preprocessing": ""}, samples=samples, same=same, things=samples))
    assert "--embed" in str(found.value.hint)


@pytest.mark.parametrize(("samples", "same"), [(1, 1), (16, 15), (200, 196)])
def test_rounding_is_let_be(samples: int, same: int) -> None:
    refuse_different(EmbeddedCheck({"preprocessing": ""}, samples=samples, same=same, things=samples))


def test_where_nothing_is_found_nothing_is_shown() -> None:
    with pytest.raises(VerificationError, match="nothing is found in any of 12 samples") as found:
        refuse_different(EmbeddedCheck({"postprocessing": ""}, samples=12, same=12))
    assert "lower score" in str(found.value.hint)
