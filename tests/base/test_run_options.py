"""What the run options say of themselves."""

from __future__ import annotations

import dataclasses

import pytest

from edgepack.base.run_options import RUN_OPTIONS, command_words, out_of_bounds
from edgepack.specs.run import RunOptions


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunOptions)])
def test_every_option_says_what_it_does(name: str) -> None:
    option = RUN_OPTIONS[name]
    assert option.help.endswith(".")
    assert (option.least is None) == (option.most is None)


def test_the_bounds_are_kept() -> None:
    assert list(out_of_bounds(RunOptions())) == []
    assert list(out_of_bounds(RunOptions(threads=1024, streams=1, fixed_batch=0))) == []
    assert list(out_of_bounds(RunOptions(threads=0, streams=1025, fixed_batch=-1))) == [
        "0 threads are out of range",
        "1025 streams are out of range",
        "-1 fixed_batch are out of range",
    ]


def test_the_command_line_has_the_threads_only() -> None:
    assert command_words(RunOptions(threads=2, spinning=False)) == ("--threads", "2")
    assert command_words(RunOptions()) == ()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("spinning", False, "spinning off"),
        ("threads", 0, "threads 0"),
        ("optimization", "basic", "optimization basic"),
        ("fixed_batch", 0, "batch left free"),
        ("fixed_batch", 4, "fixed_batch 4"),
    ],
)
def test_values_are_said_in_words(name: str, value: object, text: str) -> None:
    assert RUN_OPTIONS[name].describe(value) == text
