"""Commands that are none here."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
import pytest

from edgepack.cli.main import cli
from edgepack.cli.names import _ELSEWHERE

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py
COMMANDS = cli.list_commands(click.Context(cli))


@pytest.mark.parametrize("name", _ELSEWHERE)
def test_what_other_tools_call_a_command_leads_to_ours(edgepack: Run, name: str) -> None:
    ran = edgepack(name, "--anything", "x")
    assert (ran.code, ran.out) == (2, "")
    assert f"no such command '{name}'" in ran.err
    assert f"hint: {_ELSEWHERE[name]}" in ran.err
    assert name not in COMMANDS
    for command in re.findall(r"edgepack ([a-z]+)", _ELSEWHERE[name]):
        assert command in COMMANDS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("biuld",), "did you mean 'build'"),
        (("benchmrk", "x"), "did you mean 'benchmark'"),
        (("zzz",), "known: adopt, "),
        (("targets", "shwo"), "did you mean 'show'"),
        (("help", "biuld"), "did you mean 'build'"),
        (("help", "targets", "shwo"), "did you mean 'show'"),
        (("help", "build", "more"), "'edgepack build' has no commands of its own"),
        (("list", "target"), "did you mean 'targets'"),
    ],
)
def test_the_nearest_name_is_said(edgepack: Run, words: tuple[str, ...], said: str) -> None:
    ran = edgepack(*words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


@pytest.mark.parametrize("words", [(), ("build",), ("targets",), ("targets", "show")])
def test_help_is_what_the_option_says(edgepack: Run, words: tuple[str, ...]) -> None:
    asked, option = edgepack("help", *words), edgepack(*words, "--help")
    assert asked.code == 0
    assert " ".join(asked.out.split()) == " ".join(option.out.split())
