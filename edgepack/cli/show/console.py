"""Chooses how output for people looks: by rich where it is installed, as plain text on a device.

Text may hold rich's marks, as in ``[bold]name[/]``. What is not ours goes through ``safe`` first.
"""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Protocol, TextIO

from edgepack.base.text import printable
from edgepack.cli.show import terminal
from edgepack.cli.show.layout import Command, Table, lay_out, lay_out_command, plain, safe

if TYPE_CHECKING:
    from rich.console import Console as Rich
    from rich.progress import Progress, TaskID
    from rich.text import Text


class StatusLine(Protocol):
    """The last line of a terminal, rewritten while a stage runs; nothing where stderr is not animated."""

    def start(self) -> None:
        """Take over the line."""

    def stop(self) -> None:
        """Give the line back, empty."""

    def begin(self, stage: str, text: str) -> None:
        """Show that a stage runs."""

    def update(self, text: str, done: int, total: int) -> None:
        """Show ``done`` of ``total`` units of it; ``total`` 0 means unknown."""

    def end(self) -> None:
        """The stage is over."""


class Console(Protocol):
    """Where people read: what they asked for on stdout, progress and remarks on stderr."""

    def print(self, what: str | Table = "") -> None:
        """Print what was asked for: a line of marked text, or a table."""

    def remark(self, text: str = "") -> None:
        """Print a line of marked text that goes with it; nothing with ``--quiet``."""

    def command(self, *words: str) -> None:
        """Print a command to copy, as a remark."""

    def detail(self, text: str) -> None:
        """Print a remark for experts; only with ``--verbose``."""

    def status_line(self) -> StatusLine:
        """Return what shows progress."""


def make_console(as_json: bool = False) -> Console:
    """Return the console of all output for people; with ``as_json`` stdout is for the JSON alone."""
    try:
        import rich  # noqa: F401
    except ImportError:
        return PlainConsole(as_json)
    return RichConsole(as_json)


class _Levels:
    """Which lines are shown, by ``--quiet`` and ``--verbose``."""

    def __init__(self, as_json: bool = False) -> None:
        """Take whether stdout is for JSON alone."""
        self._as_json = as_json
        self._level = terminal.verbosity()

    def print(self, what: str | Table = "") -> None:
        """Print what was asked for: a line of marked text, or a table."""
        if self._as_json:
            if self._level > terminal.QUIET:
                self._show(what, sys.stderr)
        else:
            self._show(what, sys.stdout)

    def remark(self, text: str = "") -> None:
        """Print a line of marked text that goes with it; nothing with ``--quiet``."""
        if self._level > terminal.QUIET:
            self._show(text, sys.stderr)

    def command(self, *words: str) -> None:
        """Print a command to copy, as a remark."""
        if self._level > terminal.QUIET:
            self._show(Command(words), sys.stderr)

    def detail(self, text: str) -> None:
        """Print a remark for experts; only with ``--verbose``."""
        if self._level >= terminal.VERBOSE:
            self._show(text, sys.stderr)

    def _show(self, what: str | Table | Command, stream: TextIO) -> None:
        raise NotImplementedError


def _lines(what: str | Table | Command, stream: TextIO) -> list[str]:
    """Return lines of marked text that fit the stream; long lines of text are not broken yet."""
    if isinstance(what, Command):
        return lay_out_command(what, terminal.columns(stream))
    if isinstance(what, Table):
        return lay_out(what, terminal.columns(stream))
    return printable(what).split("\n")


# --- without rich -----------------------------------------------------------------------------------------------------


class PlainConsole(_Levels):
    """Text and aligned columns."""

    def status_line(self) -> StatusLine:
        """Return a line with a percentage."""
        return _PlainStatusLine(self._level)

    def _show(self, what: str | Table | Command, stream: TextIO) -> None:
        width = terminal.columns(stream)
        lines = [plain(line) for line in _lines(what, stream)]
        if width is not None and isinstance(what, str):
            lines = [part for line in lines for part in _wrapped(line, width)]
        terminal.write(stream, "".join(f"{line}\n" for line in lines))


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line broken at spaces; a word that is longer than the line, such as a path, stays whole."""
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


class _PlainStatusLine:
    """``benchmark  small: 40 %``, rewritten in place."""

    def __init__(self, level: int) -> None:
        self._stage = ""
        self._shown = level > terminal.QUIET and terminal.animates(sys.stderr)

    def start(self) -> None:
        """Nothing to take over."""

    def stop(self) -> None:
        """Clear the line."""
        self._write("")

    def begin(self, stage: str, text: str) -> None:
        """Show the stage's name."""
        self._stage = stage
        self._write(f"{stage:<9} {text}")

    def update(self, text: str, done: int, total: int) -> None:
        """Show the share that is done."""
        share = f"{100 * done // total} %" if total else str(done)
        self._write(f"{self._stage:<9} {text}: {share}" if text else f"{self._stage:<9} {share}")

    def end(self) -> None:
        """Clear the line."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._shown:
            width = terminal.columns(sys.stderr) or 80
            terminal.write(sys.stderr, f"\r{printable(text)[: width - 1]}\x1b[K")


# --- with rich --------------------------------------------------------------------------------------------------------


class RichConsole(_Levels):
    """Colours and bars."""

    def __init__(self, as_json: bool = False) -> None:
        super().__init__(as_json)
        self._out, self._err = _rich(sys.stdout), _rich(sys.stderr)

    def status_line(self) -> StatusLine:
        """Return a bar with the time left."""
        shown = self._level > terminal.QUIET and terminal.animates(sys.stderr)
        return _RichStatusLine(self._err, shown=shown)

    def _show(self, what: str | Table | Command, stream: TextIO) -> None:
        # The bar is drawn on the console of stderr, which moves it out of the way of what it prints itself.
        if stream is sys.stderr:
            self._print(self._err, what, stream)
            return
        with self._out.capture() as captured:
            self._print(self._out, what, stream)
        terminal.write(stream, captured.get())

    @staticmethod
    def _print(console: Rich, what: str | Table | Command, stream: TextIO) -> None:
        from rich.text import Text

        lines, width = _lines(what, stream), terminal.columns(stream)
        if width is None or not isinstance(what, str):
            console.print("\n".join(lines), soft_wrap=True)
            return
        for line in lines:  # Rich itself breaks words that are wider than the terminal
            console.print(Text("\n").join(_broken(Text.from_markup(line, emoji=False), width)), soft_wrap=True)


def _broken(text: Text, width: int) -> list[Text]:
    """Return a styled line in the parts that ``_wrapped`` makes of it."""
    parts, place = [], 0
    for words in _wrapped(text.plain, width):
        begin = text.plain.find(words, place)
        if begin < 0:  # a tab, which was expanded
            return [text]
        place = begin + len(words)
        parts.append(text[begin:place])
    return parts


def _rich(stream: TextIO) -> Rich:
    from rich.console import Console as Rich

    coloured = terminal.colours(stream)
    return Rich(
        stderr=stream is sys.stderr,
        highlight=False,
        emoji=False,
        width=terminal.columns(stream),
        color_system="standard" if coloured else None,
        force_terminal=coloured or None,
    )


class _RichStatusLine:
    """A spinner, a bar, a count and the time left."""

    def __init__(self, console: Rich, *, shown: bool) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<9} {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not shown,
        )
        self._task: TaskID | None = None

    def start(self) -> None:
        """Start to draw."""
        self._bars.start()

    def stop(self) -> None:
        """Stop drawing and clear the line."""
        self._bars.stop()

    def begin(self, stage: str, text: str) -> None:
        """Show a spinner for the stage."""
        self._task = self._bars.add_task(safe(text), stage=stage, total=None)

    def update(self, text: str, done: int, total: int) -> None:
        """Advance the bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, description=safe(text))

    def end(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
