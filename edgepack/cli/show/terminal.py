"""What a stream of output can show, decided in this one place: colour, animation, width and characters.

Colour follows ``NO_COLOR`` (no-color.org) and ``FORCE_COLOR`` (force-color.org), then whether the stream is a terminal.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERBOSITY = "edgepack.verbosity"
QUIET, NORMAL, VERBOSE = -1, 0, 1
_DUMB = ("dumb", "unknown")
# What stands for a character that the encoding of a stream lacks.
_INSTEAD = {"─": "-", "…": "~", "µ": "u", "–": "-", "−": "-", "✓": "+", "✗": "x", "×": "x"}  # noqa: RUF001


def colours(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether text on a stream is coloured, bold or dim."""
    if environment.get("NO_COLOR"):
        return False
    if forced := environment.get("FORCE_COLOR"):
        return forced not in ("0", "false")
    return is_terminal(stream) and environment.get("TERM") not in _DUMB


def animates(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a line of a stream may be rewritten in place: never in a log, nor in a CI job that has a terminal."""
    in_ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return is_terminal(stream) and environment.get("TERM") not in _DUMB and not in_ci


def is_terminal(stream: TextIO | None) -> bool:
    """Say whether a person reads a stream as it is written; a closed one is read by nobody."""
    return stream is not None and not stream.closed and stream.isatty()


def columns(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> int | None:
    """Return how wide a stream is; None where nothing limits it, as in a pipe or a file."""
    given = environment.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given):
        return int(given)
    if stream is None or not is_terminal(stream):
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def write(stream: TextIO | None, text: str) -> None:
    """Write text now, in characters that the stream's encoding has: those that it lacks stand as others or numbers."""
    if stream is None:  # closed before this process began
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = "".join(_INSTEAD.get(c, c) if not _has(encoding, c) else c for c in text)
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    stream.write(text)
    stream.flush()


def say(text: str) -> None:
    """Write a line that was asked for to stdout."""
    write(sys.stdout, f"{text}\n")


def verbosity() -> int:
    """Return how much the running command shows: ``QUIET``, ``NORMAL`` or ``VERBOSE``."""
    context = click.get_current_context(silent=True)
    return NORMAL if context is None else verbosity_of(context)


def verbosity_of(context: click.Context) -> int:
    """Return how much the command of ``context`` shows."""
    return int(context.meta.get(_VERBOSITY, NORMAL))


def set_verbosity(context: click.Context, value: int) -> None:
    """Let the command of ``context`` show more or less."""
    context.meta[_VERBOSITY] = value  # shared by the contexts of a command and its group


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
