"""What is said of a path at which nothing is, with what was likely meant."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

_MOST_NAMES = 5000  # of a folder that are looked at: one may hold millions of samples
_MOST_LETTERS = 100
_ALIKE, _NEARLY_THE_SAME = 0.6, 0.8  # of letters that two names share, as difflib counts
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")


def nothing_at(
    path: str | PurePath, otherwise: str, *, what: str = "file", suffixes: Sequence[str] = ()
) -> tuple[str, str]:
    """Return what is wrong with a path at which nothing is, and what to do; ``otherwise`` where no cause is seen.

    ``suffixes`` are those of the files that belong there: of several names that differ by their suffix alone one of
    them is meant. Of what is there and is none of those, a pipe, a socket or a device, that is said.
    """
    text = str(path)
    # else nobody sees the space, or a line ends within the name
    shown = text if text == text.strip() and text.isprintable() else repr(text)
    if _exists(Path(text)) and not Path(text).is_file() and not Path(text).is_dir():
        return f"{shown} is not a regular file", "give a file: that is a pipe, a socket or a device"
    return f"there is no {what} {shown}", _cause(text, suffixes) or otherwise


def _cause(text: str, suffixes: Sequence[str]) -> str | None:
    if text.startswith("~"):
        return "write the home folder in full: a shell replaces ~ only at the beginning of a word without quotes"
    if text.startswith("file://"):
        return f"give the path alone: {text.removeprefix('file://')}"
    if "://" in text:
        return "that is an address: fetch what is there, and give its path"
    if _WINDOWS.match(text):
        return "that is a path of Windows: give the one that it has on this machine"
    for meant in (text.strip(), text.replace("\\", "/")):
        if meant and meant != text and _exists(Path(meant)):
            return f"did you mean {meant!r}?"
    if "\\" in text:
        return "separate folders by /, not by \\"
    return _by_place(Path(text), suffixes)


def _by_place(path: Path, suffixes: Sequence[str]) -> str | None:
    """Return what was meant, or is wrong, by what stands where the path leads to."""
    lacking = next((p for p in reversed(path.parents) if not _exists(p)), None)
    gone = path if lacking is None else lacking
    if os.path.islink(gone):  # noqa: PTH114 (pathlib's raises for a name that is too long)
        return f"{gone} is a link to {os.readlink(gone)!r}, where nothing is"  # noqa: PTH115 (as it was written)
    if os.path.isfile(gone.parent):  # noqa: PTH113
        return f"{gone.parent} is a file, not a folder"
    near = _near(gone.name, _names(gone.parent), suffixes)
    if near is not None:
        return f"did you mean {str(gone.parent / near / path.relative_to(gone))!r}?"
    return None if lacking is None else f"there is no folder {lacking} either: check the path"


def _near(name: str, names: Iterable[str], suffixes: Sequence[str]) -> str | None:
    """Return the name in a folder that was likely meant: first one that lacks only its suffix."""
    known = sorted(names)
    same = [each for each in known if Path(each).stem.casefold() == name.casefold() and each != name]
    found = next((each for each in same if Path(each).suffix in suffixes), None)
    return found or _most_like(name[:_MOST_LETTERS].casefold(), {each.casefold(): each for each in reversed(known)})


def _most_like(name: str, known: Mapping[str, str]) -> str | None:
    """Return the name written most like ``name``; a suffix that both have makes them no more alike."""
    suffix = PurePath(name).suffix
    stems = {PurePath(each).stem: own for each, own in known.items() if PurePath(each).suffix == suffix}
    if near := difflib.get_close_matches(PurePath(name).stem, stems, n=1, cutoff=_ALIKE):
        return stems[near[0]]
    near = difflib.get_close_matches(name, known, n=1, cutoff=_NEARLY_THE_SAME)
    return known[near[0]] if near else None


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:  # pathlib would list the whole folder first
            return [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]
    except (OSError, ValueError):
        return []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False
