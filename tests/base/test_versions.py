"""Versions are compared by their numbers, also those that nobody would release."""

from __future__ import annotations

import pytest

from edgepack.base.versions import is_older, parse_version, release


@pytest.mark.parametrize(
    ("version", "numbers"), [("1.31.1+cpu", (1, 31, 1)), ("2026.4.1-21435", (2026, 4, 1)), ("main", ()), ("", ())]
)
def test_a_version_is_the_numbers_that_it_begins_with(version: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(version) == numbers


def test_a_version_of_thousands_of_digits_is_large_and_no_error() -> None:
    huge = "9" * 5000
    assert is_older("1.31", huge)
    assert not is_older(huge, "1.31")
    assert not is_older(f"1.{huge}", f"1.{huge}")
    assert release(f"{huge}.1").endswith(".1")
