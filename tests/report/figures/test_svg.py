"""Axes, ticks, shapes and labels of plots."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.report.figures.svg import (
    Box,
    line,
    make_axis,
    marker,
    number,
    path,
    place_labels,
    text,
    text_width,
    tick_text,
)

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)
POSITIVE = st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=8)


@given(VALUES)
def test_an_axis_holds_its_values_with_room(values: list[float]) -> None:
    axis = make_axis(values, 0, 100, log=False)
    for value in values:
        assert -1e-6 <= axis.place(value) <= 100 + 1e-6
    if max(values) > min(values) + 1e-6 * max(map(abs, values)):
        assert axis.place(min(values)) > 0
        assert axis.place(max(values)) < 100
    assert axis.place(axis.low) == pytest.approx(0)
    assert axis.place(axis.high) == pytest.approx(100)


@given(POSITIVE)
def test_values_that_span_widely_are_on_a_logarithmic_axis(values: list[float]) -> None:
    axis = make_axis(values, 0, 100)
    assert axis.log == (max(values) / min(values) > 6)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    if axis.log:
        middle = math.sqrt(axis.low * axis.high)
        assert axis.place(middle) == pytest.approx(50)


def test_what_is_not_positive_is_never_logarithmic() -> None:
    assert not make_axis([0, 1000], 0, 1).log
    assert not make_axis([0, 1000], 0, 1, log=True).log
    assert make_axis([5, 6], 0, 1, log=True).log


@given(POSITIVE, st.booleans())
def test_ticks_are_few_round_and_inside(values: list[float], log: bool) -> None:
    axis = make_axis(values, 0, 100, log=log)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    room = 1e-9 * (axis.high - axis.low)
    assert all(axis.low - room <= tick <= axis.high + room for tick in ticks)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(
    ("ticks", "log", "texts"),
    [
        ([0, 5, 10], False, ["0", "5", "10"]),
        ([0.5, 1.0, 1.5], False, ["0.5", "1.0", "1.5"]),
        ([-0.25, 0, 0.25], False, ["\u22120.25", "0.00", "0.25"]),
        ([1, 10, 100], True, ["1", "10", "100"]),
        ([2e6, 4e6], False, ["2e+06", "4e+06"]),
    ],
)
def test_ticks_have_the_decimals_that_tell_them_apart(ticks: list[float], log: bool, texts: list[str]) -> None:
    assert [tick_text(tick, ticks, log=log) for tick in ticks] == texts


@pytest.mark.parametrize(("value", "shown"), [(1.0, "1"), (1.25, "1.2"), (-0.04, "-0"), (10.96, "11")])
def test_coordinates_have_one_decimal(value: float, shown: str) -> None:
    assert number(value) == shown


def test_elements_are_well_formed_whatever_they_say() -> None:
    for made in (
        text(1, 2, '<a b="c">&', kind="tick", anchor="end", turn=True),
        line(0, 1, 2, 3, "grid"),
        path([(0, 0), (1, 2), (3, 4)], "front", steps=True, more=' stroke-dasharray="1"'),
        *(marker(shape, 5, 5) for shape in ("circle", "diamond", "square", "triangle")),
    ):
        ElementTree.fromstring(made)
    assert path([], "front") == ""
    assert 'd="M0 0H1V2H3V4"' in path([(0, 0), (1, 2), (3, 4)], "front", steps=True)
    assert 'd="M0 0L1 2"' in path([(0, 0), (1, 2)], "line")


def test_boxes_share_more_than_an_edge() -> None:
    one = Box(0, 0, 10, 10)
    assert one.overlaps(Box(5, 5, 15, 15))
    assert not one.overlaps(Box(10, 0, 20, 10))
    assert Box(2, 2, 8, 8).inside(one)
    assert not one.inside(Box(2, 2, 8, 8))


@given(st.lists(st.tuples(st.floats(10, 490), st.floats(10, 290)), min_size=1, max_size=12))
def test_no_label_covers_a_point_or_another_or_leaves_the_plot(points: list[tuple[float, float]]) -> None:
    area, size = Box(0, 0, 500, 300), 12.5
    names = [f"label {n}" for n in range(len(points))]
    boxes = []
    for spot, name in zip(place_labels(points, names, area, size), names, strict=True):
        if spot is None:
            continue
        x, y, anchor = spot
        width = text_width(name, size)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        boxes.append(Box(left, y - size * 0.8, left + width, y + size * 0.25))
    for i, box in enumerate(boxes):
        assert box.inside(area)
        assert not any(box.overlaps(Box(x - 8, y - 8, x + 8, y + 8)) for x, y in points)
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_lone_point_has_its_label_beside_it() -> None:
    assert place_labels([(100, 100)], ["a"], Box(0, 0, 500, 300), 12) == [(111, 104, "start")]
    assert place_labels([(495, 100)], ["a long name"], Box(0, 0, 500, 300), 12) == [(484, 104, "end")]
