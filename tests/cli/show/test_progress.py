"""Progress on a terminal, and in a log file."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from edgepack.cli.show import progress
from edgepack.cli.show.layout import width_of
from edgepack.cli.show.progress import Bar, Display


class Line:
    """The line that is drawn over and over."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.said.append((name, *arguments))


class Fake:
    """A console that remembers."""

    def __init__(self) -> None:
        self.line, self.printed, self.details = Line(), [], []

    def status_line(self) -> Line:
        return self.line

    def remark(self, text: str) -> None:
        self.printed.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = iter([10.0, 12.5, 20.0, 20.25])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    return Fake()


def test_a_stage_ends_as_a_line_with_its_time(console: Any) -> None:
    with Display(console) as display:
        display.begin("export", "model.py")
        display.progress("export", 1, 3)
        display.progress("verify board fp32", 2, 3)
        display.end("done", "")
        display.begin("prepare", "opset 17")
        display.end("reused", "opset 18")
    assert console.printed == [
        "[green]✓[/] export    model.py  [dim]2.5 s[/]",
        "[cyan]=[/] prepare   opset 18  [dim]reused[/]",
    ]
    assert console.line.said == [
        ("start",),
        ("begin", "export", "model.py"),
        ("update", "model.py", 1, 3),
        ("update", "model.py: verify board fp32", 2, 3),
        ("end",),
        ("begin", "prepare", "opset 17"),
        ("end",),
        ("stop",),
    ]


def test_a_long_detail_is_cut_so_that_the_time_stays_on_the_line(console: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with Display(console) as display:
        display.begin("verify", "host-openvino int8, 5 operators in fp32 for speed on 24 samples")
        display.end("done", "")
    (line,) = console.printed
    assert line.startswith("[green]✓[/] verify    host-openvino int8, …")
    assert line.endswith("speed on 24 samples  [dim]2.5 s[/]")
    assert width_of(line) == 60


def test_a_failure_and_a_note_are_marked_and_no_markup(console: Any) -> None:
    with Display(console) as display:
        display.begin("compile", "board")
        display.end("failed", "[red]no[/]")
        display.note("[bold]look[/]")
    first, second = console.printed
    assert first.startswith("[red]✗[/] compile   ")
    assert r"\[red]no" in first
    assert second.startswith("[yellow]![/] ")
    assert r"\[bold]look" in second


@pytest.mark.parametrize("fails", [False, True])
def test_a_bar_is_one_stage(console: Any, fails: bool) -> None:
    try:
        with Bar(console, "tune") as bar:
            bar("tune", 1, 2)
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    (line,) = console.printed
    assert line.startswith("[red]✗[/] tune" if fails else "[green]✓[/] tune")
    assert console.line.said[-1] == ("stop",)
    assert ("update", "", 1, 2) in console.line.said


def test_a_long_stage_says_in_a_log_that_it_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT_S", 0.02)
    monkeypatch.setattr(progress, "in_words", lambda seconds: f"{seconds / 0.02:.0f} halves of a minute")
    fake: Any = Fake()
    with Display(fake) as display:
        display.begin("export", "[net]")
        display.progress("export", 3, 8)
        for _ in range(500):
            if len(fake.printed) > 3:
                break
            time.sleep(0.01)
        display.end("done", "")
        count = len(fake.printed)
        time.sleep(0.1)
    assert len(fake.printed) == count  # it ends with the stage
    for line, halves in zip(fake.printed, (1, 2, 4, 6), strict=False):
        assert line.startswith(f"[dim]… export \\[net]: still running after {halves} halves of a minute")
    assert fake.printed[1].endswith(", 3 of 8[/]")


def test_where_a_line_moves_there_is_no_such_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT_S", 0.01)
    monkeypatch.setattr(progress.terminal, "animates", lambda _: True)
    fake: Any = Fake()
    with Display(fake) as display:
        display.begin("export", "net")
        time.sleep(0.1)
    assert fake.printed == []


def test_what_samples_print_in_every_stage_that_reads_them_is_a_detail_from_the_second_on() -> None:
    fake: Any = Fake()
    with Display(fake) as display:
        for stage, lines in (
            ("choose", ("loading", "loading")),
            ("calibrate", ("loading", "late")),
            ("verify", ("late",)),
        ):
            display.begin(stage, "")
            for line in lines:
                display.said(line)
            display.end("done", "")
    said = [text for text in fake.printed if "\u2502" in text]
    assert [text.rpartition(" ")[2] for text in said] == ["loading", "loading", "late"]
    assert [text.rpartition(" ")[2] for text in fake.details] == ["loading", "late"]


def test_the_whole_is_said_above_the_stages(console: Any) -> None:
    with Display(console) as display:
        display.row(7, 18, "board int8", 370.0)
        display.row(8, 18, "[board] fp32", None)
        display.row(1, 1, "board int8", None)  # there is no whole beside it
    assert console.printed == [
        "[bold]row 7 of 18[/]: board int8, about 6 min left",
        "[bold]row 8 of 18[/]: \\[board] fp32",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 s"),
        (4.4, "4 s"),
        (89.0, "89 s"),
        (90.0, "2 min"),
        (370.0, "6 min"),
        (5399.0, "90 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_a_time_to_wait_in_words(seconds: float, words: str) -> None:
    assert progress.in_words(seconds) == words


def test_stages_of_several_threads_end_as_lines_of_their_own(console: Any) -> None:
    display = Display(console)
    display.begin("export", "first")
    other = threading.Thread(target=lambda: (display.begin("compile", "second"), display.end("done", "")))
    other.start()
    other.join()
    display.end("done", "")
    assert [line.split("[dim]")[0].split()[1:] for line in console.printed] == [
        ["compile", "second"],
        ["export", "first"],
    ]
    # 12.5 s to 20 s, and 10 s to 20.25 s, by the clock of these tests
    assert ["7.5 s" in console.printed[0], "10.2 s" in console.printed[1]] == [True, True]
