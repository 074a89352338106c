"""Progress on a terminal: one line a stage, with a bar, the time left and how it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edgepack.execution.events import Outcome

if TYPE_CHECKING:
    from rich.console import Console

_LOG_COLUMNS = 140
_MARKS = {"done": "[green]✓[/]", "reused": "[cyan]=[/]", "failed": "[red]✗[/]"}


def make_console() -> Console:
    """Return the console of all human output: stderr, as wide as the terminal; a log file gets 140 columns."""
    import os
    import sys

    from rich.console import Console

    width = None if sys.stderr.isatty() or "COLUMNS" in os.environ else _LOG_COLUMNS
    return Console(stderr=True, highlight=False, soft_wrap=False, width=width)


class Display:
    """``Events`` as lines on stderr; where stderr is no terminal, only the lines of ended stages are written."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<9} {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: Any = None
        self._stage = self._detail = ""
        self._began = 0.0

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, stage: str, detail: str) -> None:
        """Show a spinner for the stage."""
        self._stage, self._detail, self._began = stage, detail, time.monotonic()
        self._task = self._bars.add_task(_escape(detail), stage=stage, total=None)

    def progress(self, what: str, done: int, total: int, /) -> None:
        """Advance the bar of the running stage; a ``what`` of several words stands beside it."""
        if self._task is not None:
            words = [self._detail, what] if " " in what else [self._detail]
            text = ": ".join(filter(None, words))
            self._bars.update(self._task, completed=done, total=total or None, description=_escape(text))

    def end(self, outcome: Outcome, detail: str) -> None:
        """Replace the bar by a line."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        took = time.monotonic() - self._began
        when = "[dim]reused[/]" if outcome == "reused" else f"[dim]{took:.1f} s[/]"
        text = _escape(detail or self._detail)
        self._console.print(f"{_MARKS[outcome]} {self._stage:<9} {text}  {when}")

    def note(self, text: str) -> None:
        """Print a warning between the stages' lines."""
        self._console.print(f"[yellow]![/] {_escape(text)}")


class Bar:
    """A ``Progress`` of one command that is no build."""

    def __init__(self, console: Console, stage: str) -> None:
        self._display = Display(console)
        self._stage = stage

    def __enter__(self) -> Bar:
        self._display.__enter__()
        self._display.begin(self._stage, "")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._display.end("failed" if kind else "done", "")
        self._display.__exit__()

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Advance the bar."""
        self._display.progress(what, done, total)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
