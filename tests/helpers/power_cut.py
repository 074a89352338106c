"""What is on a disk after a power cut, simulated: only what was flushed by then.

``doubles/unsynced.c`` notes at each fsync the bytes of the file and the names below the folder. Two disks are made of
that, the ends of what a journaling file system may leave: every name is there, but not the bytes that were not flushed
(a file that was renamed before its bytes were written is empty then); or the names too are those of the last flush.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

DOUBLES = Path(__file__).resolve().parent / "doubles"
STATES = ("bytes lost", "names lost")


def unsynced_library(folder: Path) -> Path:
    """Compile the library, or skip."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    out = folder / "unsynced.so"
    words = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-o",
        str(out),
        str(DOUBLES / "unsynced.c"),
        "-ldl",
    ]
    subprocess.run(words, check=True)
    return out


@dataclass(frozen=True)
class Entry:
    """A name below the folder: ``kind`` is f, d or l; ``target`` is a link's."""

    kind: str
    inode: int
    mode: int
    path: Path
    target: str = ""


@dataclass(frozen=True)
class End:
    """What is on a disk afterwards: names and bytes; ``lacks`` says whether something that was written is not there."""

    state: str
    found: tuple[tuple[Entry, bytes], ...]
    lacks: bool


class Disk:
    """A folder as it was before a run, which is on the disk, and what the run flushes."""

    def __init__(self, library: Path, root: Path, notes: Path) -> None:
        self._library, self._root, self._notes = library, root, notes
        shutil.rmtree(notes, ignore_errors=True)
        (notes / "data").mkdir(parents=True)
        self._names = _names(root)
        self._bytes = {entry.inode: entry.path.read_bytes() for entry in self._names if entry.kind == "f"}

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment that puts the library before a process."""
        return {"LD_PRELOAD": str(self._library), "UNSYNCED": str(self._notes), "UNSYNCED_ROOT": str(self._root)}

    def ends(self) -> tuple[End, ...]:
        """Return what a cut of the power may leave of what the process has written by now."""
        left = [(each, each.path.read_bytes() if each.kind == "f" else b"") for each in _names(self._root)]
        made = []
        for state, names in zip(STATES, ([entry for entry, _ in left], self._flushed_names()), strict=True):
            found = [(entry, self._flushed(entry.inode) if entry.kind == "f" else b"") for entry in names]
            made.append(End(state, tuple(found), found != left))
        return tuple(made)

    def become(self, end: End) -> None:
        """Let the folder be what a cut of the power left."""
        shutil.rmtree(self._root)
        self._root.mkdir()
        for entry, data in end.found:
            _make(entry, data)

    def _flushed(self, inode: int) -> bytes:
        path = self._notes / "data" / str(inode)
        return path.read_bytes() if path.exists() else self._bytes.get(inode, b"")

    def _flushed_names(self) -> list[Entry]:
        path = self._notes / "names"
        if not path.exists():
            return self._names
        parts = [line.split("\t") for line in path.read_text().splitlines()]
        entries = [
            Entry(kind, int(inode), int(mode, 8), Path(name), target) for kind, inode, mode, name, target in parts
        ]
        return sorted((each for each in entries if each.path != self._root), key=lambda each: each.path)


def _names(root: Path) -> list[Entry]:
    found = []
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = "l" if path.is_symlink() else "d" if path.is_dir() else "f"
        target = str(path.readlink()) if kind == "l" else ""
        found.append(Entry(kind, status.st_ino, status.st_mode & 0o7777, path, target))
    return found


def _make(entry: Entry, data: bytes) -> None:
    if entry.kind == "l":
        entry.path.symlink_to(entry.target)
    elif entry.kind == "d":
        entry.path.mkdir()
        entry.path.chmod(entry.mode | 0o700)
    else:
        entry.path.write_bytes(data)
        entry.path.chmod(entry.mode)
        os.utime(entry.path, (0, 0))
