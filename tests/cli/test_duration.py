"""Durations on the command line."""

from __future__ import annotations

from edgepack.cli.duration import DURATION


def test_durations() -> None:
    assert [DURATION.convert(text, None, None) for text in ("500ms", "10s", "2min", "1.5", "1m")] == [
        500_000_000, 10_000_000_000, 120_000_000_000, 1_500_000_000, 60_000_000_000
    ]  # fmt: skip
