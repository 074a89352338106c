"""Quantities as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.cli.show import format as show


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5_000_000_000, "5.0 GB")],
)
def test_sizes_are_powers_of_a_thousand(value: int | None, text: str) -> None:
    assert show.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0 ns"), (999, "999 ns"), (1000, "1 µs"), (32_812, "32.8 µs"), (1_234_567, "1.23 ms"),
     (999_400_000, "999 ms"), (2.5e9, "2.5 s"), (12_345e9, "12345 s")],
)  # fmt: skip
def test_times_have_three_digits(value: float | None, text: str) -> None:
    assert show.time_ns(value) == text


@given(st.floats(1, 1e13))
def test_a_time_is_read_as_what_it_is(value: float) -> None:
    number, unit = show.time_ns(value).split()
    factor = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert float(number) * factor == pytest.approx(value, rel=0.006, abs=0.6)


@given(st.floats(1, 1e13), st.floats(0.5, 1), st.floats(1, 2))
def test_an_interval_is_in_the_unit_of_its_value(value: float, low: float, high: float) -> None:
    text = show.interval_ns(value, (value * low, value * high))
    assert re.fullmatch(r"[^.]+(\.\d+)?([eE][+-]?\d+)?\.\.[^.]+(\.\d+)?([eE][+-]?\d+)?", text)
    unit = show.time_ns(value).split()[1]
    factor = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    first, second = (float(end) * factor for end in text.split(".."))
    assert first == pytest.approx(value * low, rel=0.006)
    assert second == pytest.approx(value * high, rel=0.006)


@pytest.mark.parametrize(
    ("made", "text"),
    [(show.percent(0.12345), "12.3 %"), (show.percent(0.12345, 2), "12.35 %"), (show.percent(None), "-"),
     (show.points(0.0123), "+1.23"), (show.points(-0.5), "-50.00"), (show.points(None), "-"),
     (show.decibel(31.25), "31.2 dB"), (show.decibel(None), "-"),
     (show.shape(("N", 3, 8)), "[N, 3, 8]"), (show.shape(()), "[]"),
     (show.shape(("DynamicDimension.0", 3, "h")), "[any, 3, h]")],
)  # fmt: skip
def test_fractions_decibels_and_shapes(made: str, text: str) -> None:
    assert made == text


def test_a_column_without_a_value_has_no_unit() -> None:
    assert show.column([None, None], show.SIZES) == ("", ("-", "-"))
    assert show.column([0, None], show.SIZES)[0] == "B"
