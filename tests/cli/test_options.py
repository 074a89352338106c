"""Options that several commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from edgepack.cli.main import cli
from edgepack.cli.options import (
    PRECISIONS,
    DropType,
    OneOf,
    PairType,
    RowOf,
    ShareType,
    echo_json,
    given,
    options,
    parse_shapes,
)
from edgepack.errors import ConfigError
from edgepack.specs.build import Latency


def run(*words: str, of: Any) -> Any:
    seen: list[dict[str, Any]] = []

    @click.command()
    @of
    def command(**values: Any) -> None:
        seen.append(values)

    result = CliRunner().invoke(command, words)
    return seen[0] if result.exit_code == 0 else result.output


def test_the_near_value_is_offered() -> None:
    said = run("--precision", "int9", of=options("precision"))
    assert "unknown precision 'int9'; did you mean 'int8'" in said
    assert run("--precision", "int8", "--precision", "fp32", of=options("precision"))["precisions"] == ("int8", "fp32")
    assert OneOf(PRECISIONS).choices == PRECISIONS


def test_rows_of_a_table_are_asked_for_when_they_are_needed() -> None:
    row = RowOf("edgepack.calibrate.observers:OBSERVERS")
    assert "minmax" in row.choices
    assert "unknown observer 'minmx'; did you mean 'minmax'" in run("--observer", "minmx", of=options("observer"))


@pytest.mark.parametrize("text", ["x", "x=", "=1x3", ""])
def test_what_is_no_shape_is_refused_with_an_example(text: str) -> None:
    assert "example: input=Nx3x224x224" in run("--shape", text, of=options("shape"))


def test_shapes_are_pairs() -> None:
    found = run("--shape", "a=1x3", "--shape", "b=Nx4", of=options("shape"))["shapes"]
    assert found == (("a", "1x3"), ("b", "Nx4"))
    assert parse_shapes(found) == {"a": (1, 3), "b": ("N", 4)}
    for bare in ("1x3x96x96", "*x40", "*framesx40"):
        assert run("--shape", bare, of=options("shape"))["shapes"] == (("", bare),)
    assert parse_shapes([("a", "*x40"), ("b", "*framesx1")]) == {"a": ("*", 40), "b": ("*frames", 1)}
    with pytest.raises(ConfigError, match=r"'\*' is not a size"):
        parse_shapes([("a", "1x*")])
    assert PairType("SHAPE", "input=Nx3").convert(("a", "1"), None, None) == ("a", "1")
    with pytest.raises(ConfigError):
        parse_shapes([("a", "1x-3")])


def test_options_stand_in_the_order_they_are_asked_for() -> None:
    @click.command()
    @options("seed", "json", "store")
    def command() -> None: ...

    assert [parameter.name for parameter in command.params] == ["seed", "as_json", "store"]


@pytest.mark.parametrize(
    ("words", "valid"), [(("--threads", "2"), True), (("--threads", "0"), False), (("--threads", "9999"), False)]
)
def test_run_options_have_the_bounds_of_their_record(words: tuple[str, ...], valid: bool) -> None:
    found = run(*words, of=options("threads"))
    assert (found == {"threads": 2}) if valid else ("not in the range" in found)


def test_only_what_was_given_counts() -> None:
    assert given({"a": None, "b": (), "c": 0, "d": "", "e": False, "f": ("x",)}) == {
        "c": 0,
        "d": "",
        "e": False,
        "f": ("x",),
    }


def test_json_is_a_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json(Latency(1, None))
    assert capsys.readouterr().out == '{\n "p50": 1,\n "p90": null\n}\n'


@pytest.mark.parametrize(
    ("words", "targets", "precisions"),
    [
        ((), (), ()),
        (("-t", "a", "-t", "b,c", "-p", "fp32,int8"), ("a", "b", "c"), ("fp32", "int8")),
        (("--target", "a, b,", "--precision", "int8", "-p", "fp32"), ("a", "b"), ("int8", "fp32")),
    ],
)
def test_several_targets_and_precisions_stand_in_one_word_or_in_several(
    words: tuple[str, ...], targets: tuple[str, ...], precisions: tuple[str, ...]
) -> None:
    found = run(*words, of=options("target", "precision"))
    assert (found["targets"], found["precisions"]) == (targets, precisions)


def test_a_file_with_a_comma_in_its_name_is_one_target(tmp_path: Path) -> None:
    (tmp_path / "a,b.toml").write_text("")
    assert run("-t", str(tmp_path / "a,b.toml"), of=options("target"))["targets"] == (str(tmp_path / "a,b.toml"),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "fp32,int9"), "did you mean 'int8'"),
        (("-p", ","), "unknown precision"),
        (("-t", ","), "no target given"),
    ],
)
def test_what_is_no_target_or_precision_is_refused(words: tuple[str, ...], said: str) -> None:
    assert said in run(*words, of=options("target", "precision"))


def every(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from every(command)


def test_what_many_commands_take_has_the_same_short_form_everywhere() -> None:
    short = {"--target": "-t", "--precision": "-p", "--data": "-d", "--out": "-o"}
    taken = [option.opts for command in every(cli) for option in command.params if set(option.opts) & set(short)]
    assert len(taken) > 20
    for names in taken:
        (long,) = set(names) & set(short)
        assert short[long] in names


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("build", "x", "-t", "raspberry-pi-5"), {"raspberry-pi-5", "raspberry-pi-5-tvm"}),
        (("build", "x", "-t", "rpi5,jetson-x"), {"rpi5,jetson-xavier-nx-jp5"}),
        (("compile", "x", "--target", "rpi"), {"rpi4", "rpi5"}),
        (("build", "x", "--recipe", "efficient"), {"efficientnet-lite"}),
        (("build", "x", "-p", "f"), {"fp32", "fp16"}),
        (("targets", "show", "amd"), {"amd-zen3"}),
        (("bench",), {"benchmark"}),
    ],
)
def test_a_shell_completes_names(words: tuple[str, ...], offered: set[str]) -> None:
    found = BashComplete(cli, {}, "edgepack", "_EDGEPACK_COMPLETE").get_completions([*words[:-1]], words[-1])
    assert {item.value for item in found} == offered
    files = BashComplete(cli, {}, "edgepack", "_EDGEPACK_COMPLETE").get_completions(["build"], "mod")
    assert [(item.type, item.value) for item in files] == [("file", "mod")]


def test_the_program_answers_a_shell() -> None:
    environment = {
        **os.environ,
        "_EDGEPACK_COMPLETE": "bash_complete",
        "COMP_WORDS": "edgepack build -t rpi",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-m", "edgepack"], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["plain,rpi4", "plain,rpi5"]


@pytest.mark.parametrize(
    ("text", "drop"),
    [("0.01", 0.01), ("1pt", 0.01), ("1.0pp", 0.01), ("1 %", 0.01), ("0.5 points", 0.005), (".5", 0.5), ("0", 0.0)],
)
def test_a_drop_may_have_a_unit(text: str, drop: float) -> None:
    assert DropType().convert(text, None, None) == pytest.approx(drop)


@pytest.mark.parametrize("text", ["", "pt", "1", "1.0", "1 ms", "-1pt", "nan", "1,5pt", "1pt 2"])
def test_what_is_no_drop_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 1pt"):
        DropType().convert(text, None, None)


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.02", 0.02), ("2 %", 0.02), ("100%", 1.0), ("0", 0.0)])
def test_a_share_may_be_per_cent(text: str, share: float) -> None:
    assert ShareType().convert(text, None, None) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "1", "2", "101%", "2pt", "-1%", "nan", "2,5%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write 2% or 0\.02"):
        ShareType().convert(text, None, None)
