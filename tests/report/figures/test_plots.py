"""Plots of latency, energy and quality."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.figures.plots import (
    MOST_CURVES,
    SHAPES,
    distribution_plot,
    energy_plot,
    quality_plot,
    swatch,
)
from edgepack.specs.run import Accuracy


def entries_of(results, rows=()):
    (group,) = make_groups(results, rows)
    return group.entries


@pytest.fixture(scope="module")
def labelled():
    return entries_of(*made_up.labelled_build())


def points(plot: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(plot).iter() if "point" in (e.get("class") or "").split()]


def test_every_measured_bundle_is_a_point_under_its_number(labelled) -> None:
    plot = quality_plot(labelled)
    assert plot is not None
    found = points(plot)
    assert [int(point.get("data-entry", "")) for point in found] == [i for i, e in enumerate(labelled) if e.measured]
    assert [point.get("tabindex") for point in found] == ["0", "-1", "-1", "-1"]
    assert all(point.get("aria-label") for point in found)
    assert "Top-1 accuracy, %" in plot


def test_precisions_have_shapes_of_their_own() -> None:
    drawn = {name: re.sub(r"class=\"[^\"]*\"", "", swatch(name)) for name in SHAPES}
    assert len(set(drawn.values())) == len(SHAPES)
    for name in SHAPES:
        ElementTree.fromstring(swatch(name))
        ElementTree.fromstring(swatch(name, "7 3"))


def test_a_disturbed_point_is_marked() -> None:
    results, rows = made_up.labelled_build()
    results = (dataclasses.replace(results[0], valid=False, invalid_reasons=("hot",)), *results[1:])
    plot = quality_plot(entries_of(results, rows))
    assert plot is not None
    assert ["disturbed" in str(point.get("class")) for point in points(plot)].count(True) == 1


def test_nothing_to_compare_makes_no_plot() -> None:
    assert quality_plot(entries_of((made_up.result(),))) is None
    assert energy_plot(entries_of(*made_up.labelled_build())) is None  # no sensor


def test_names_are_no_markup() -> None:
    quality = made_up.measured(made_up.accuracy())
    results = tuple(made_up.result(f"<b>{n}", accuracy=quality) for n in range(2))
    plot = quality_plot(entries_of(results))
    assert plot is not None
    ElementTree.fromstring(plot)
    assert "<b>" not in plot


def test_energy_is_in_a_unit_that_suits_it() -> None:
    plot = energy_plot(entries_of(*made_up.full_build()))
    assert plot is not None
    assert "Energy per sample, mJ" in plot


def test_the_fastest_have_curves_that_rise_from_0_to_100() -> None:
    results = tuple(made_up.result(f"board-{n:02}", median_ms=1.0 + n) for n in range(MOST_CURVES + 3))
    found = distribution_plot(entries_of(results))
    assert found is not None
    plot, curves, unit_ns = found
    assert sorted(curve.index for curve in curves) == list(range(MOST_CURVES))
    assert len({curve.dash for curve in curves}) == MOST_CURVES  # all of one precision
    assert unit_ns == 1e6
    for group in ElementTree.fromstring(plot).iter("{*}g"):
        drawn = next(iter(group.iter("{*}path"))).get("d", "")
        heights = [float(y) for y in re.findall(r" ([\d.]+)", drawn)]
        assert heights == sorted(heights, reverse=True)


def test_without_measurements_there_are_no_curves() -> None:
    assert distribution_plot(entries_of((), (made_up.row(),))) is None


def test_of_an_error_less_is_better() -> None:
    results, rows = made_up.labelled_build()
    error = Accuracy("mae", 100, 40.0, 42.5, 2.5, (1.0, 4.0))
    plot = quality_plot(
        entries_of(results, [dataclasses.replace(r, accuracy=error) if r.accuracy else r for r in rows])
    )
    assert plot is not None
    assert "Mean absolute error  \u2190 better" in plot
    assert "\u2192 better" not in plot
