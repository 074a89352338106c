"""Durations on the command line."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.cli.duration import AGE, DURATION, SECONDS, SIZE


def test_durations() -> None:
    assert [DURATION.convert(text, None, None) for text in ("500ms", "10s", "2min", "1.5", "1m", "2h")] == [
        500_000_000, 10_000_000_000, 120_000_000_000, 1_500_000_000, 60_000_000_000, 7_200_000_000_000
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "fast", "25h", "-1s", "1e3", "0", "0.5ms", "86401", "1 2", "s", "1.s2"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration from 1ms to 1 day; examples: 500ms, 10s, 2min"):
        DURATION.convert(text, None, None)


@given(st.integers(1, 86_400_000))
def test_every_number_of_milliseconds_is_taken(count: int) -> None:
    assert DURATION.convert(f" {count} ms", None, None) == count * 1_000_000


def test_a_setting_in_seconds_takes_a_number_or_a_duration() -> None:
    found = [SECONDS.convert(text, None, None) for text in ("2", "0.5", "1e3", "500ms", "2min", "0")]
    assert found == [2.0, 0.5, 1000.0, 0.5, 120.0, 0.0]
    with pytest.raises(click.BadParameter, match="'soon' is not a duration"):
        SECONDS.convert("soon", None, None)


def test_nanoseconds_of_a_default_stay() -> None:
    assert DURATION.convert(7, None, None) == 7


def test_ages_and_sizes() -> None:
    assert [AGE.convert(text, None, None) for text in ("90s", "30min", "12h", "30d")] == [
        90_000_000_000, 1_800_000_000_000, 43_200_000_000_000, 2_592_000_000_000_000
    ]  # fmt: skip
    assert [SIZE.convert(text, None, None) for text in ("12B", "1.5kB", "500MB", "5 GB", "1TB")] == [
        12, 1500, 500_000_000, 5_000_000_000, 1_000_000_000_000
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "30 days", "9999999999d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="12h, 30d"):
        AGE.convert(text, None, None)


@pytest.mark.parametrize("text", ["", "5", "MB", "-1MB", "5mb", "1e3MB", "9999999999TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="500MB, 5GB"):
        SIZE.convert(text, None, None)
