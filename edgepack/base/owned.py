"""Folders that belong to edgepack: a marker in each says so, and nothing is removed from one without it.

A folder that a user points at may be anybody's. Before edgepack writes into one whose contents it will later remove,
the folder must be new, empty, marked, or hold nothing but what edgepack makes there (as one from before there were
markers).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgepack.base.files import storage_errors, write_text
from edgepack.errors import ConfigError

MARKER = ".edgepack"
_BEING_MARKED = re.compile(re.escape(f".{MARKER}.") + r"[0-9a-f]{8}\.tmp")  # another process writes the marker just now


def check_ours(folder: Path, kind: str, is_made_by_us: Callable[[Path], bool]) -> None:
    """Raise ``ConfigError`` unless ``folder`` is absent, empty or ours; ``is_made_by_us`` judges each of its entries.

    ``kind`` is what the folder is for, in words: a folder that is marked for something else is not ours either.
    """
    with storage_errors(folder):
        entries = (
            [entry for entry in sorted(folder.iterdir()) if not _BEING_MARKED.fullmatch(entry.name)]
            if folder.is_dir()
            else []
        )
    if (folder / MARKER) in entries:
        found = _marked_as(folder)
        if found != kind:
            raise ConfigError(f"{folder} is marked as {found or 'something else'}, not as {kind}", hint=_hint(kind))
        return
    with storage_errors(folder):
        foreign = [entry.name for entry in entries if not is_made_by_us(entry)]
    if foreign:
        raise ConfigError(
            f"{folder} is not {kind}: it holds {foreign[0]!r}, which edgepack did not make", hint=_hint(kind)
        )


def mark(folder: Path, kind: str) -> None:
    """Make ``folder`` with its marker, which the caller has found to be ours (``check_ours``)."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MARKER).exists():
            write_text(folder / MARKER, f"{kind}\nedgepack removes from this folder what it made in it.\n")


def _hint(kind: str) -> str:
    return f"give a new or empty folder, or one that already is {kind}; nothing was changed"


def _marked_as(folder: Path) -> str:
    try:
        with (folder / MARKER).open(encoding="utf-8", errors="replace") as file:
            return file.readline(200).strip()
    except OSError:
        return ""
