"""A stage runner without store and child processes, for tests of what is asked of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack.device.host import host_facts


@dataclasses.dataclass
class Recorded:
    """``Events`` that remembers."""

    notes: list[str] = dataclasses.field(default_factory=list)
    begun: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def begin(self, stage: str, detail: str) -> None:
        self.begun.append((stage, detail))

    def progress(self, what: str, done: int, total: int, /) -> None: ...

    def end(self, outcome: Any, detail: str) -> None: ...

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None: ...

    def said(self, text: str) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


class InProcess:
    """Calls a stage at once, with a new folder; ``answers`` replaces stages by their name."""

    def __init__(self, folder: Path, **answers: Callable[..., Any]) -> None:
        self.folder, self.answers, self.events = folder, answers, Recorded()
        self.logs = folder
        self.host = host_facts()
        self.ran: list[tuple[str, str]] = []

    def run(self, function: Any, *arguments: Any, title: str = "") -> Any:
        name = function.__name__
        self.ran.append((name, title))
        if name in self.answers:
            return self.answers[name](*arguments)
        out = self.folder / f"{len(self.ran)}-{name}"
        out.mkdir(parents=True)
        return function(*arguments, out)
