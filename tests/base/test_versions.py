"""Versions are compared by their numbers, also those that nobody would release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.base.versions import is_older, parse_version, release

NUMBERS = st.lists(st.integers(0, 10**6), min_size=1, max_size=5)


def text(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("1.31.1+cpu", (1, 31, 1)),
        ("2026.4.1-21435", (2026, 4, 1)),
        ("8", (8,)),
        ("1.2.", (1, 2)),
        ("v1.2", ()),
        ("\u0663.1", ()),
        ("", ()),
    ],
)
def test_what_follows_the_numbers_does_not_count(version: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(version) == numbers


@pytest.mark.parametrize(("version", "short"), [("2026.4.1-21435", "2026.4"), ("8", "8"), ("nightly", "nightly")])
def test_a_release_is_major_and_minor(version: str, short: str) -> None:
    assert release(version) == short


@given(NUMBERS)
def test_numbers_come_back(numbers: list[int]) -> None:
    assert parse_version(text(numbers)) == tuple(numbers)


@given(NUMBERS, NUMBERS)
def test_of_two_versions_one_is_older_unless_they_differ_in_zeros(first: list[int], second: list[int]) -> None:
    one, other = text(first), text(second)
    width = max(len(first), len(second))
    same = first + [0] * (width - len(first)) == second + [0] * (width - len(second))
    assert [is_older(one, other), is_older(other, one)].count(True) == (0 if same else 1)


@given(NUMBERS, st.integers(0, 3))
def test_zeros_at_the_end_do_not_count(numbers: list[int], zeros: int) -> None:
    longer = text(numbers + [0] * zeros)
    assert not is_older(text(numbers), longer)
    assert not is_older(longer, text(numbers))


def test_ten_is_newer_than_nine() -> None:
    assert is_older("1.9", "1.10")


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
