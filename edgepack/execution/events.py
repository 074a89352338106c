"""The events of long work: stages that begin, advance and end."""

from __future__ import annotations

from typing import Literal, Protocol

Outcome = Literal["done", "reused", "failed"]


class Events(Protocol):
    """Called by ``pipeline.build``; the command line shows it, programs may ignore it."""

    def begin(self, stage: str, detail: str) -> None:
        """A stage starts; ``detail`` says on what."""

    def progress(self, what: str, done: int, total: int, /) -> None:
        """The stage that began last has done ``done`` of ``total`` units; ``total`` 0 means unknown."""

    def end(self, outcome: Outcome, detail: str) -> None:
        """The stage that began last is over."""

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
        """Row ``number`` of ``total`` of a build starts; what is left takes about ``left_s``, where that is known."""

    def note(self, text: str) -> None:
        """Something the user should know that is not an error."""

    def said(self, text: str) -> None:
        """The user's own code, which the stage that began last runs, printed this line."""


class Silent:
    """``Events`` that shows nothing."""

    def begin(self, stage: str, detail: str) -> None:
        """Show nothing."""

    def progress(self, what: str, done: int, total: int, /) -> None:
        """Show nothing."""

    def end(self, outcome: Outcome, detail: str) -> None:
        """Show nothing."""

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def said(self, text: str) -> None:
        """Show nothing."""


class Named:
    """``Events`` of one of several that are worked on at once: its name stands before what is told to ``events``."""

    def __init__(self, events: Events, name: str) -> None:
        self._events, self._name = events, name

    def begin(self, stage: str, detail: str) -> None:
        """Tell it."""
        self._events.begin(stage, f"{self._name}: {detail}")

    def progress(self, what: str, done: int, total: int, /) -> None:
        """Tell it."""
        self._events.progress(what, done, total)

    def end(self, outcome: Outcome, detail: str) -> None:
        """Tell it."""
        self._events.end(outcome, f"{self._name}: {detail}")

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
        """Tell it as it is: a row's title has the name."""
        self._events.row(number, total, title, left_s)

    def note(self, text: str) -> None:
        """Tell it."""
        self._events.note(f"{self._name}: {text}")

    def said(self, text: str) -> None:
        """Tell it."""
        self._events.said(f"{self._name}: {text}")
