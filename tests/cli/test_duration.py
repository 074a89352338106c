"""Durations on the command line."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.cli.duration import DURATION


def test_durations() -> None:
    assert [DURATION.convert(text, None, None) for text in ("500ms", "10s", "2min", "1.5", "1m")] == [
        500_000_000, 10_000_000_000, 120_000_000_000, 1_500_000_000, 60_000_000_000
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "fast", "10h", "-1s", "1e3", "0", "0.5ms", "86401", "1 2", "s", "1.s2"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration from 1ms to 1 day; examples: 500ms, 10s, 2min"):
        DURATION.convert(text, None, None)


@given(st.integers(1, 86_400_000))
def test_every_number_of_milliseconds_is_taken(count: int) -> None:
    assert DURATION.convert(f" {count} ms", None, None) == count * 1_000_000


def test_nanoseconds_of_a_default_stay() -> None:
    assert DURATION.convert(7, None, None) == 7
