"""Colour, animation, width and characters of a stream."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.cli.show import terminal


class Stream(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    ("tty", "environment", "colours", "animates"),
    [
        (True, {"TERM": "xterm"}, True, True),
        (True, {}, True, True),
        (False, {"TERM": "xterm"}, False, False),
        (True, {"TERM": "dumb"}, False, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True, True),
        (False, {"FORCE_COLOR": "1"}, True, False),
        (True, {"FORCE_COLOR": "0"}, False, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        (True, {"TERM": "xterm", "CI": "true"}, True, False),
        (True, {"TERM": "xterm", "CI": "false"}, True, True),
    ],
)
def test_colour_and_animation(tty: bool, environment: dict[str, str], colours: bool, animates: bool) -> None:
    assert terminal.colours(Stream(tty), environment) is colours
    assert terminal.animates(Stream(tty), environment) is animates


def test_a_closed_stream_is_nobodys() -> None:
    closed = Stream(tty=True)
    closed.close()
    for stream in (None, closed):
        assert not terminal.colours(stream, {})
        assert terminal.columns(stream, {}) is None
    terminal.write(None, "lost")


@pytest.mark.parametrize(("given", "width"), [("72", 72), ("0", None), ("wide", None), ("", None), ("²", None)])
def test_a_pipe_has_the_width_that_is_given_or_none(given: str, width: int | None) -> None:
    assert terminal.columns(Stream(tty=False), {"COLUMNS": given}) == width


def test_characters_that_an_encoding_lacks_stand_as_others() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    terminal.write(stream, "── 5 µs … 日")
    assert raw.getvalue() == b"-- 5 us ~ \\u65e5"


def on_a_terminal(*words: str, **environment: str) -> str:
    """Run the command line on a terminal of 80 columns and return what it writes to stdout."""
    ours, theirs = pty.openpty()
    base = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    done = subprocess.Popen(
        [sys.executable, "-m", "edgepack", *words], stdout=theirs, stderr=subprocess.DEVNULL,
        env={**base, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the other side is closed
        pass
    done.wait()
    os.close(ours)
    return said.decode()


def test_a_real_terminal_gets_colour_unless_told_otherwise() -> None:
    assert "\x1b[" in on_a_terminal("targets")
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_a_terminal("targets", **environment)


@pytest.mark.parametrize("command", ["targets list", "recipes", "schema build"])
def test_a_reader_of_few_lines_ends_it_in_silence(command: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m edgepack {command} 2>{tmp_path / 'err'} | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "err").read_text() == ""


def test_a_pipe_gets_every_row_as_one_whole_line() -> None:
    command = [sys.executable, "-m", "edgepack", "targets"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": ""})
    assert done.stderr == ""
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("jetson-agx-orin-64gb-jp6 ")]
    assert "tensorrt" in line
    assert "…" not in done.stdout


def test_a_log_in_ascii_is_written() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "edgepack", "targets"], capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
