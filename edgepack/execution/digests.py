"""Digests of files: each file is read once, and again when something shows that it may have been written."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from edgepack.base.files import sha256_file, write_text, written_mark

_MOST_DIGESTS = 20_000
# A file changed within this time of being hashed may change again without a new mtime, so its digest is not kept.
_RACY_NS = 2_000_000_000


class Digests:
    """The sha256 of files, remembered by path, size, times and inode.

    ``file`` keeps them for the next process; without it, this one alone knows them. Threads may share them once they
    are loaded; ``changed`` says that there is something to write.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.changed = False
        self._file = file
        self._known: dict[str, list[Any]] | None = None

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file, from the last time when its size, times and inode are unchanged."""
        known = self.load()
        name, mark = str(path.absolute()), written_mark(path)
        entry = known.get(name)
        if entry is not None and entry[:4] == mark:
            return str(entry[4])
        digest = sha256_file(path)
        if _is_settled(mark):
            known[name] = [*mark, digest]
            self.changed = True
        return digest

    def load(self) -> dict[str, list[Any]]:
        """Return what is known; a file that is damaged holds nothing."""
        if self._known is None:
            try:
                loaded = json.loads(self._file.read_bytes()) if self._file is not None else {}
                self._known = {str(k): v for k, v in loaded.items() if _is_digest(v)}
            except (OSError, ValueError, AttributeError, RecursionError):
                self._known = {}
        return self._known

    def write(self) -> None:
        """Write what is known to ``file``; of very many, those of files that are still there."""
        if self._file is None:
            return
        digests = dict(self.load())  # other threads may be adding to it
        if len(digests) > _MOST_DIGESTS:
            digests = self._known = {name: entry for name, entry in digests.items() if os.path.lexists(name)}
        write_text(self._file, json.dumps(digests))
        self.changed = False

    def forget(self) -> None:
        """Forget what is known in this process."""
        self._known = None


def _is_settled(mark: list[int]) -> bool:
    _, mtime_ns, ctime_ns, _ = mark
    return time.time_ns() - max(mtime_ns, ctime_ns) > _RACY_NS


def _is_digest(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 5 and isinstance(entry[4], str)
