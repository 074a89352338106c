from __future__ import annotations

import shlex

import pytest

from edgepack.cli.show.console import PlainConsole, make_console
from edgepack.cli.show.layout import Table, safe


def test_a_plain_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    table = Table(("name", "time", "why"), right=("time",), wrapped=("why",))
    table.add_row("[green]first[/]", "1.5 ms\n[dim]1..2[/]", "because it is the first of a long list")
    table.add_row("second", "20 ms", "")
    PlainConsole().print(table)
    assert capsys.readouterr().out.splitlines() == [
        "name      time  why",
        "─" * 44,
        "first   1.5 ms  because it is the first of a",
        "          1..2  long list",
        "second   20 ms",
    ]


def test_both_consoles_show_the_same_cells(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    table = Table(("name", "shape"))
    table.add_row(safe("[bold]input[/]"), safe("[n, 3]"))
    for console in (PlainConsole(), make_console()):
        console.print(table)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split() for line in lines if "input" in line] == [["[bold]input[/]", "[n,", "3]"]]


def test_progress_on_a_log_file_is_the_lines_that_stay(capsys: pytest.CaptureFixture[str]) -> None:
    from edgepack.cli.show.progress import Display

    with Display(PlainConsole()) as display:
        display.begin("compile", "host-openvino fp32")
        display.progress("compile", 1, 2)
        display.end("done", "")
        display.note("a [note]")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("✓ compile   host-openvino fp32  ")
    assert lines[1:] == ["! a [note]"]


def test_a_table_that_does_not_fit_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "19")
    table = Table(("bundle", "p50", "p90"), right=("p50", "p90"))
    table.add_row("[bold]small[/]", "1.6 µs\n[dim]1..2[/]", "")
    table.add_row("other", "1 ms", "2 ms")
    for console in (PlainConsole(), make_console()):
        console.print(table)
        assert capsys.readouterr().out.split("\n") == [
            "bundle  small", "p50     1.6 µs 1..2", "", "bundle  other", "p50     1 ms", "p90     2 ms", "",
        ]  # fmt: skip


@pytest.mark.parametrize("columns", ["30", "50", "200"])
def test_a_command_is_one_that_a_shell_reads_however_narrow_the_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    words = ("edgepack", "build", "a folder/with a long name/and a longer one/net.onnx", "--recipe", "own[1].toml")
    for console in (PlainConsole(), make_console()):
        console.command(*words)
        shown = capsys.readouterr().err
        assert tuple(shlex.split(shown.replace("\\\n", ""))) == words  # as a shell joins lines
        assert not [line for line in shown.splitlines() if line.endswith("--recipe \\")]


def test_a_path_that_is_wider_than_the_terminal_is_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "/".join(["a-folder-with-a-long-name"] * 4)
    for console in (PlainConsole(), make_console()):
        console.remark(f"report: {path}")
        assert path in capsys.readouterr().err


def test_a_sentence_is_broken_between_words_with_its_style(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = ["word"] * 30
    for console in (PlainConsole(), make_console()):
        console.remark(f"[bold]{' '.join(words[:20])}[/] {' '.join(words[20:])}")
        lines = capsys.readouterr().err.splitlines()
        assert max(map(len, lines)) <= 40
        assert " ".join(lines).split() == words
