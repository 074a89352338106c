"""Progress on a terminal: one line a stage, how it ended and how long it took, below them what runs now."""

from __future__ import annotations

import logging
import time

from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import safe
from edgepack.execution.events import Outcome

_LOG = logging.getLogger("edgepack.cli")
_MARKS = {"done": "[green]✓[/]", "reused": "[cyan]=[/]", "failed": "[red]✗[/]"}


class Display:
    """``Events`` as lines on stderr; where stderr is not a terminal, only the lines of ended stages are written."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = console.status_line()
        self._stage = self._detail = ""
        self._began = 0.0

    def __enter__(self) -> Display:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def begin(self, stage: str, detail: str) -> None:
        """Show that the stage runs."""
        self._stage, self._detail, self._began = stage, detail, time.monotonic()
        self._line.begin(stage, detail)

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
        """Print how far the whole is, above the stages of the row."""
        _LOG.info("row %d of %d: %s", number, total, title)
        if total > 1:
            left = "" if left_s is None else f", about {in_words(left_s)} left"
            self._console.remark(f"[bold]row {number} of {total}[/]: {safe(title)}{left}")

    def progress(self, what: str, done: int, total: int, /) -> None:
        """Advance the running stage; a ``what`` of several words stands beside it."""
        words = [self._detail, what] if " " in what else [self._detail]
        self._line.update(": ".join(filter(None, words)), done, total)

    def end(self, outcome: Outcome, detail: str) -> None:
        """Replace the status by a line that stays."""
        self._line.end()
        took = time.monotonic() - self._began
        when = "[dim]reused[/]" if outcome == "reused" else f"[dim]{took:.1f} s[/]"
        text = safe(detail or self._detail)
        self._console.remark(f"{_MARKS[outcome]} {self._stage:<9} {text}  {when}")

    def note(self, text: str) -> None:
        """Print a warning between the stages' lines."""
        _LOG.info("%s", text)
        self._console.remark(f"[yellow]![/] {safe(text)}")

    def said(self, text: str) -> None:
        """Print what the user's code printed, so that it is not taken for ours."""
        _LOG.info("printed: %s", text)
        self._console.remark(f"[dim]\u2502[/] {safe(text)}")


def in_words(seconds: float) -> str:
    """Return a time to wait as people say it: seconds below a minute and a half, hours from an hour and a half."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


class Bar:
    """A ``Progress`` of a command that is a single stage."""

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
