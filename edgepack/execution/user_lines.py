"""What the user's own code prints, told apart from what engines and libraries print."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TextIO

from edgepack.base.resources import package_folder

_MOST_LETTERS = 500  # of a line; the log has it whole
_MOST_LINES = 200  # of one process: a print in a loop over samples must not bury the rest


class UserLines:
    """A text stream that passes everything on and calls ``said`` with each whole line that the user's code wrote.

    Code is the user's that lies neither in Python, nor in an installed package, nor in edgepack.
    """

    def __init__(self, stream: TextIO, said: Callable[[str], None]) -> None:
        self._stream, self._said = stream, said
        self._begun, self._told = "", 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, and tell it if it is the user's."""
        if _is_users(sys._getframe(1)):
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                self._tell(line)
        return self._stream.write(text)

    def flush(self) -> None:
        """Write what is kept."""
        self._stream.flush()

    def _tell(self, line: str) -> None:
        self._told += 1
        if line.strip() and self._told <= _MOST_LINES:
            self._said(line[:_MOST_LETTERS])
        elif self._told == _MOST_LINES + 1:
            self._said(f"... more than {_MOST_LINES} lines; the log has them all")


def _is_users(frame: FrameType | None) -> bool:
    """Say whether the code that writes is the user's: of ``print`` this is its caller."""
    if frame is None or frame.f_code.co_filename.startswith("<"):
        return False
    place = Path(frame.f_code.co_filename).resolve()
    return not any(place.is_relative_to(folder) for folder in _others())


def _others() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    names = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib") if key in paths]
    return (package_folder(), *(Path(name).resolve() for name in names))
