"""cosine, from the figures that were summed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgepack.specs.run import Accuracy
from edgepack.verify.closeness import Closeness
from edgepack.verify.metrics.cosine import METRIC


def compared(cosine: float, interval: tuple[float, float] | None) -> Any:
    return SimpleNamespace(closeness=Closeness(12, None, None, cosine, interval, None, None))


def test_the_interval_of_the_drop_is_that_of_the_cosine_turned_round() -> None:
    answer = METRIC.measure(compared(0.95, (0.9, 0.97)))
    assert answer == Accuracy("cosine", 12, 1.0, 0.95, pytest.approx(0.05), pytest.approx((0.03, 0.1)))


def test_without_an_interval_it_is_the_figure_itself() -> None:
    answer = METRIC.measure(compared(0.75, None))
    assert isinstance(answer, Accuracy)
    assert answer.ci95 == (0.25, 0.25) == (answer.drop, answer.drop)
