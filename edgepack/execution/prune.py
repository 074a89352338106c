"""What a store holds, by stage, and what of it is removed first: what was used longest ago."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgepack.execution.store import Store
from edgepack.execution.store_folder import VALUE


@dataclass(frozen=True)
class Entry:
    """One stored output: ``used_s`` is when it was read or made last, in seconds since 1970."""

    stage: str
    path: Path
    size_bytes: int
    used_s: float


@dataclass(frozen=True)
class StageSize:
    """What is stored of one stage."""

    stage: str
    entries: int
    size_bytes: int
    used_s: float


def entries_of(store: Store) -> tuple[Entry, ...]:
    """Return what a store holds, the longest unused first.

    File systems note when a file was read, most of them once a day, some never: then it counts when it was made.
    """
    found = []
    for path in store.entries():
        with contextlib.suppress(FileNotFoundError):  # another process may be at work
            value = (path / VALUE).stat()
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found.append(Entry(path.parent.name, path, size, max(value.st_atime, value.st_mtime)))
    return tuple(sorted(found, key=lambda entry: (entry.used_s, str(entry.path))))


def by_stage(entries: Iterable[Entry]) -> tuple[StageSize, ...]:
    """Return the entries of each stage together, the largest first."""
    stages: dict[str, list[Entry]] = {}
    for entry in entries:
        stages.setdefault(entry.stage, []).append(entry)
    sizes = (
        StageSize(stage, len(found), sum(e.size_bytes for e in found), max(e.used_s for e in found))
        for stage, found in stages.items()
    )
    return tuple(sorted(sizes, key=lambda size: (-size.size_bytes, size.stage)))


def prune(store: Store, unused_since_s: float | None, most_bytes: int | None) -> tuple[Entry, ...]:
    """Remove what was not used since a time, and then the longest unused until ``most_bytes`` are left; return it."""
    entries = entries_of(store)
    left = sum(entry.size_bytes for entry in entries)
    removed = []
    for entry in entries:
        old = unused_since_s is not None and entry.used_s < unused_since_s
        if old or (most_bytes is not None and left > most_bytes):
            store.remove(entry.path)
            removed.append(entry)
            left -= entry.size_bytes
    return tuple(removed)
