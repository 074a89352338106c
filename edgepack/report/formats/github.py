"""Annotations for GitHub's runner: workflow commands, one a line, in which nothing of a document is a command.

The escapes are those of https://github.com/actions/toolkit (packages/core/src/command.ts).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgepack.report.entries import labels, make_groups
from edgepack.report.entries.gain import gain_of
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

_MOST = 50  # GitHub shows ten of a kind in a step, and fifty in a job


def to_annotations(results: tuple[Result, ...], rows: tuple[BuildRow, ...], failed: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a pull request must show: conditions that hold, rows that failed, and int8 that is no faster."""
    return tuple(line for line, _ in zip(_lines(results, rows, failed), range(_MOST), strict=False))


def _lines(results: tuple[Result, ...], rows: tuple[BuildRow, ...], failed: tuple[str, ...]) -> Iterator[str]:
    for text in failed:
        yield _command("error", "a condition of --fail-if holds", text)
    for group in make_groups(results, rows):
        for entry, name in zip(group.entries, labels(group.entries), strict=True):
            if entry.status in ("failed", "gate_missed", "poor"):
                title = f"{group.title} {name}: {entry.status.replace('_', ' ')}"
                yield _command("error", title, entry.reason or "no reason was given")
            elif gain_of(entry) in ("same", "slower"):
                yield _command("warning", f"{group.title} {name}: not faster than fp32", "fp32 is recommended there")


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_escaped(title, ',:')}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    for letter in "%\r\n" + more:
        text = text.replace(letter, f"%{ord(letter):02X}")
    return text
