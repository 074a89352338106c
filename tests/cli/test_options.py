"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgepack.cli.options import PRECISIONS, OneOf, PairType, RowOf, echo_json, given, options, parse_shapes
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
