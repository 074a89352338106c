"""agreement, from the figures that were summed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgepack.specs.run import Accuracy
from edgepack.verify.closeness import Closeness
from edgepack.verify.metrics.agreement import METRIC


def compared(agreement: float | None, interval: tuple[float, float] | None) -> Any:
    return SimpleNamespace(closeness=Closeness(40, None, None, 1.0, None, agreement, interval))


def test_the_fp32_model_agrees_with_itself() -> None:
    answer = METRIC.measure(compared(0.9, (0.75, 0.98)))
    assert isinstance(answer, Accuracy)
    assert (answer.metric, answer.n, answer.fp32, answer.value) == ("agreement", 40, 1.0, 0.9)
    assert answer.drop == pytest.approx(0.1)
    assert answer.ci95 == pytest.approx((0.02, 0.25))


@pytest.mark.parametrize(("agreement", "interval"), [(None, None), (0.9, None), (None, (0.0, 1.0))])
def test_without_class_scores_there_is_a_reason(agreement: Any, interval: Any) -> None:
    assert "class scores [batch, classes]" in str(METRIC.measure(compared(agreement, interval)))
