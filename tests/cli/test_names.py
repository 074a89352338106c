"""Commands that are none here."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
import pytest

from edgepack.cli.main import cli
from edgepack.cli.names import _ELSEWHERE, _OPTIONS_ELSEWHERE, option_meant, refuse_dashes

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
        (("zzz",), "'edgepack --help' lists the commands"),
        (("net.onnx", "-t", "rpi5"), "'edgepack build net.onnx'"),
        (("my net.EDGEPACK",), "'edgepack inspect 'my net.EDGEPACK''"),
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("build net.onnx --device rpi5", "did you mean '--target'? See 'edgepack build --help'"),
        ("run net.edgepack --data cat.jpg", "did you mean '--input'?"),
        ("build net.onnx --quantize", "did you mean '--precision int8'?"),
        ("build net.onnx --calib_data pics", "did you mean '--data'?"),
        ("build net.onnx --presicion int8", "did you mean '--precision'?"),
        ("report results --title x", "hint: see 'edgepack report --help'"),
        ("report results --dtype int8", "hint: see 'edgepack report --help'"),
        ("build net.onnx --opset 13", "hint: see 'edgepack build --help'"),
    ],
)
def test_the_option_that_was_meant_is_said(edgepack: Run, words: str, said: str) -> None:
    ran = edgepack(*words.split())
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_what_others_call_an_option_is_one_of_a_command_and_hides_none() -> None:
    context = click.Context(cli)
    commands = [command for name in COMMANDS if (command := cli.get_command(context, name)) is not None]
    own = {word for command in commands for parameter in command.params for word in parameter.opts}
    for name, meant in _OPTIONS_ELSEWHERE.items():
        assert {words.partition(" ")[0] for words in meant} <= own | {"MODEL"}, name
    assert option_meant("--device", None) is None


def groups(command: click.Command, context: click.Context) -> list[tuple[click.Group, click.Context]]:
    if not isinstance(command, click.Group):
        return []
    below = [command.get_command(context, name) for name in command.list_commands(context)]
    inner = [
        found for each in below if each is not None for found in groups(each, click.Context(each, context, each.name))
    ]
    return [(command, context), *inner]


def test_no_line_of_a_list_of_commands_is_cut() -> None:
    found = groups(cli, click.Context(cli, terminal_width=80))
    assert {"store", "root"} < {group.name for group, _ in found}
    for group, context in found:
        assert "..." not in group.get_help(context).partition("Commands:")[2], group.name
    text = " ".join(cli.get_help(click.Context(cli, terminal_width=80)).split())
    assert "on this machine or, with --on, on another." in text


def test_a_model_has_no_option_but_where_there_is_one() -> None:
    context = click.Context(cli)

    def meant(name: str) -> str | None:
        command = cli.get_command(context, name)
        assert command is not None
        return option_meant("--model", click.Context(command))

    assert (meant("build"), meant("inspect")) == ("MODEL without an option", "MODEL without an option")
    assert meant("init") == "--model"
    assert meant("verify") is None


@pytest.mark.parametrize(
    "words", [("run", "b", "--input", "\u2014so it goes"), ("run", "\u2014"), ("-", "--", "--target")]
)
def test_a_dash_in_what_is_no_option_is_let_pass(words: tuple[str, ...]) -> None:
    refuse_dashes(words)


# Commands that answer nothing that a program would read: they write a file, or show help.
_WITHOUT_JSON = {"edgepack init", "edgepack recipes new", "edgepack root make", "edgepack root sign", "edgepack help"}


def test_every_command_that_answers_does_so_in_json_too() -> None:
    found = {
        f"{within.command_path} {name}"
        for group, within in groups(cli, click.Context(cli, info_name="edgepack"))
        for name in group.list_commands(within)
        if (command := group.get_command(within, name)) is not None
        and not (isinstance(command, click.Group) and not command.invoke_without_command)
        and "--json" not in {word for parameter in command.params for word in parameter.opts}
    }
    assert found == _WITHOUT_JSON
