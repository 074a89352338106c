"""sqnr has a figure in every evaluation, and no drop."""

from __future__ import annotations

from typing import Any

from edgepack.verify.metrics.sqnr import METRIC


def test_it_says_where_the_figure_is_whatever_was_compared() -> None:
    nothing: Any = None
    assert METRIC.measure(nothing) == "sqnr is a ratio in dB and has no drop; see sqnr_db"


def test_it_needs_nothing_and_limits_nothing() -> None:
    assert not METRIC.has_drop
    assert not METRIC.needs_labels
    assert not METRIC.needs_scores
    assert (METRIC.title, METRIC.unit) == ("SQNR", "dB")
