"""Progress on a terminal: one line a stage, how it ended and how long it took, below them what runs now."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time

from edgepack.cli.show import terminal
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import cut_to, safe, width_of
from edgepack.execution.events import Outcome

_LOG = logging.getLogger("edgepack.cli")
# A log that nobody sees move is told so often that a stage still runs: CI ends jobs that are silent for minutes.
BEAT_S = 30.0
_LEAST_DETAIL = 20  # columns
_MARKS = {"done": "[green]✓[/]", "reused": "[cyan]=[/]", "failed": "[red]✗[/]"}


class _Running(threading.local):
    """The stage that a thread runs."""

    stage = detail = ""
    began = 0.0
    beat: Beat | None = None

    def __init__(self) -> None:
        self.printed: set[str] = set()  # what the user's code printed in it


class Beat:
    """Says from a thread of its own that a stage still runs and how far it is: after half a minute and each minute."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._over = threading.Event()
        self.far = ""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        beats = itertools.count(1)
        while not self._over.wait(BEAT_S):
            beat = next(beats)
            if beat > 1 and beat % 2:
                continue
            far = f", {self.far}" if self.far else ""
            took = in_words(beat * BEAT_S)
            self._console.remark(f"[dim]… {self._title}: still running after {took}{far}[/]")

    def end(self) -> None:
        """The stage is over."""
        self._over.set()


class Display:
    """``Events`` as lines on stderr; where stderr is not a terminal, only the lines of ended stages are written.

    Several threads may tell it of their stages: each line that stays is of the stage of its thread, and the line that
    is drawn over and over of the one that began last.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = console.status_line()
        self._own = _Running()
        self._drawing, self._drawn = threading.Lock(), False
        self._beats = not terminal.animates(sys.stderr)
        self._printed: set[str] = set()

    def __enter__(self) -> Display:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_beat()
        self._line.stop()

    def _end_beat(self) -> None:
        if self._own.beat is not None:
            self._own.beat.end()
            self._own.beat = None

    def begin(self, stage: str, detail: str) -> None:
        """Show that the stage runs."""
        self._own.stage, self._own.detail, self._own.began = stage, detail, time.monotonic()
        self._end_beat()
        if self._beats:
            self._own.beat = Beat(self._console, f"{stage} {safe(detail)}".strip())
        with self._drawing:
            if self._drawn:
                self._line.end()
            self._line.begin(stage, detail)
            self._drawn = True

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
        """Print how far the whole is, above the stages of the row."""
        _LOG.info("row %d of %d: %s", number, total, title)
        if total > 1:
            left = "" if left_s is None else f", about {in_words(left_s)} left"
            self._console.remark(f"[bold]row {number} of {total}[/]: {safe(title)}{left}")

    def progress(self, what: str, done: int, total: int, /) -> None:
        """Advance the running stage; a ``what`` of several words stands beside it."""
        if self._own.beat is not None and total:
            self._own.beat.far = f"{done} of {total}"
        words = [self._own.detail, what] if " " in what else [self._own.detail]
        self._line.update(": ".join(filter(None, words)), done, total)

    def end(self, outcome: Outcome, detail: str) -> None:
        """Replace the status by a line that stays."""
        self._end_beat()
        with self._drawing:
            self._line.end()
            self._drawn = False
            self._printed |= self._own.printed
        self._own.printed = set()
        took = time.monotonic() - self._own.began
        when = "[dim]reused[/]" if outcome == "reused" else f"[dim]{took:.1f} s[/]"
        head, text = f"{_MARKS[outcome]} {self._own.stage:<9} ", safe(detail or self._own.detail)
        width = terminal.columns(sys.stderr)
        if width is not None:  # else a time and its unit stand on two lines
            text = cut_to(text, max(_LEAST_DETAIL, width - width_of(f"{head}  {when}")))
        self._console.remark(f"{head}{text}  {when}")

    def note(self, text: str) -> None:
        """Print a warning between the stages' lines."""
        _LOG.info("%s", text)
        self._console.remark(f"[yellow]![/] {safe(text)}")

    def said(self, text: str) -> None:
        """Print what the user's code printed, so that it is not taken for ours.

        Samples and models are read by several stages: a line that an earlier one showed is a detail.
        """
        _LOG.info("printed: %s", text)
        self._own.printed.add(text)
        show = self._console.detail if text in self._printed else self._console.remark
        show(f"[dim]\u2502[/] {safe(text)}")


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
