"""Bars of speed-up and size."""

from __future__ import annotations

import made_up
import pytest

from edgepack.report.entries import labels, make_groups
from edgepack.report.figures.bars import MOST, Chart, charts


def charts_of(results, rows=()) -> dict[str, Chart]:
    (group,) = make_groups(results, rows)
    return {chart.key: chart for chart in charts(group.entries, labels(group.entries))}


def test_the_longest_bar_or_interval_fills_the_axis() -> None:
    found = charts_of(*made_up.labelled_build())
    for chart in found.values():
        ends = [max(bar.percent, (bar.ends or (0, 0))[1]) for bar in chart.bars]
        assert max(ends) == pytest.approx(100)
        assert min(bar.percent for bar in chart.bars) > 0


def test_the_line_of_fp32_is_where_the_speedup_is_one() -> None:
    chart = charts_of(*made_up.labelled_build())["speedup"]
    assert chart.base is not None
    for bar in chart.bars:
        if bar.precision == "fp32":
            assert bar.percent == pytest.approx(chart.base)
        else:
            assert bar.percent > chart.base
            assert bar.ends is not None
            assert bar.ends[0] < bar.percent < bar.ends[1]


def test_sizes_are_of_every_bundle_that_was_built() -> None:
    chart = charts_of(*made_up.labelled_build())["size"]
    assert len(chart.bars) == 5  # one failed
    assert chart.base is None
    by_size = sorted(chart.bars, key=lambda bar: bar.percent)
    assert by_size[-1].text == "1.13 MB"


def test_one_alone_or_fp32_alone_is_no_comparison() -> None:
    assert charts_of((made_up.result(),)) == {}
    both = (made_up.result("a"), made_up.result("b", size_bytes=9))
    assert set(charts_of(both)) == {"size"}


def test_of_too_many_the_fastest_are_shown() -> None:
    results = tuple(made_up.result(f"board-{n:02}", median_ms=1.0 + n, size_bytes=100 + n) for n in range(MOST + 5))
    chart = charts_of(results)["size"]
    assert (len(chart.bars), chart.left_out) == (MOST, 5)
    assert {bar.index for bar in chart.bars} == set(range(MOST))
