"""How much work each effort allows."""

from __future__ import annotations

from typing import get_args

import pytest

from edgepack.errors import ConfigError
from edgepack.quantize.correct.effort import EFFORTS, find_budget
from edgepack.specs.types import Effort


def test_every_effort_has_a_budget_and_more_of_it_is_more_work() -> None:
    assert tuple(EFFORTS) == get_args(Effort)
    low, medium, high = (find_budget(name) for name in ("low", "medium", "high"))
    for field in ("fitting", "judging", "branches", "outlook", "second_order", "groups"):
        assert getattr(low, field) <= getattr(medium, field) <= getattr(high, field)
    assert set(low.sizes) <= set(medium.sizes) <= set(high.sizes)


def test_an_unknown_effort_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="unknown effort 'hihg'") as caught:
        find_budget("hihg")
    assert "high" in (caught.value.hint or "")
