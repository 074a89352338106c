"""Takes a file that another machine sends through ssh: from where it was cut off, whole by its digest or not at all.

``receive`` says on stdout how much of the file is here, then reads the rest from stdin. It holds a lock on the half
file, so that two senders of one file do not mix their pieces; one whose link is cut and who does not know it yet is
waited for, and ends when nothing has come for a while. What is whole stays under its digest for some days, so that it
is not sent again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import IO

from edgepack.base.files import storage_errors, sync_folder
from edgepack.errors import ConfigError, IntegrityError, StorageError
from edgepack.runtime.cache import refuse_foreign

_SHA256 = re.compile("[0-9a-f]{64}")
_OURS = re.compile(r"[0-9a-f]{64}\.(part|file)")
_CHUNK_BYTES = 1 << 20
_KEPT_S = 7 * 86_400
_SILENT_S = 30.0  # a sender from whom nothing has come for so long is gone
_WAIT_S = 60.0  # for another sender of the same file: longer than that
_LOOK_S = 0.1
# An installation copies the bundle and writes records; a full disk stops other programs too.
_MARGIN_BYTES = 4 << 20


@dataclass(frozen=True)
class Received:
    """A file that is here whole, and how many bytes of it came this time."""

    path: str
    sha256: str
    received_bytes: int


def incoming_folder() -> Path:
    """Return ``edgepack/incoming`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return ((Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "incoming").absolute()


def receive(sha256: str, size: int, stdin: IO[bytes], stdout: IO[str], folder: Path | None = None) -> Received:
    """Take the file with this digest and size, and return where it is.

    First a line ``{"offset": N}`` goes to ``stdout``; the bytes from there on are then read from ``stdin``. Raises
    ``StorageError`` when there is no room for it and its installation, or another sender is at it; ``IntegrityError``
    when it is another file (which goes), ``ConfigError`` when the sender went away before the end (what came stays).
    """
    if not _SHA256.fullmatch(sha256) or size < 0:
        raise ConfigError("a digest and a size are needed to receive a file")
    place = folder if folder is not None else incoming_folder()
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_foreign(place)
    _sweep(place)
    whole, part = place / f"{sha256}.file", place / f"{sha256}.part"
    with _alone(part) as file:
        if whole.is_file() and _digest(whole) == sha256:
            part.unlink()
            _say(stdout, size)
            os.utime(whole)
            return Received(str(whole), sha256, 0)
        offset = _begin(file, size, place)
        _say(stdout, offset)
        came = _read(stdin, file, size - offset, part)
        if offset + came < size:
            raise ConfigError(
                f"the sender went away after {offset + came} of {size} bytes", hint="send it again: what came is kept"
            )
        if _digest(part) != sha256:
            part.unlink()
            raise IntegrityError("what was received is not the file that was announced", hint="send it again")
        part.replace(whole)
        sync_folder(place)
    return Received(str(whole), sha256, came)


def _begin(file: IO[bytes], size: int, place: Path) -> int:
    """Return how much of the file is here, cut to whole pieces that were flushed; checks the room for the rest."""
    offset = file.seek(0, os.SEEK_END)
    if offset > size:
        file.truncate(0)
        offset = 0
    room, needed = shutil.disk_usage(place).free, size - offset + size + _MARGIN_BYTES
    if room < needed:
        raise StorageError(
            f"{place} has {room // 1_000_000} MB free, and {needed // 1_000_000} MB are needed",
            hint="free some disk space there",
        )
    file.seek(offset)
    return offset


def _read(stdin: IO[bytes], file: IO[bytes], count: int, part: Path) -> int:
    """Copy up to ``count`` bytes and return how many came; all of them are on the disk then."""
    came = 0
    with storage_errors(part):
        try:
            while came < count and (piece := _piece(stdin, min(_CHUNK_BYTES, count - came))):
                file.write(piece)
                came += len(piece)
        finally:
            file.flush()
            os.fsync(file.fileno())
    return came


def _piece(stdin: IO[bytes], most: int) -> bytes:
    """Return what has come, up to ``most`` bytes; nothing when the sender ended, or is silent for too long."""
    ready, _, _ = select([stdin], [], [], _SILENT_S)
    return os.read(stdin.fileno(), most) if ready else b""


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Hold the half file, which another sender may have finished or removed meanwhile: then it is opened again."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        with storage_errors(part), part.open("ab") as file:
            if _hold(file) and _is_still(file, part):
                yield file
                return
        if time.monotonic() >= deadline:
            raise StorageError("another process is sending this file", hint="wait until it has finished")
        time.sleep(_LOOK_S)


def _hold(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(file: IO[bytes], part: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == part.stat().st_ino
    except OSError:
        return False


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _say(stdout: IO[str], offset: int) -> None:
    stdout.write(json.dumps({"offset": offset}) + "\n")
    stdout.flush()


def _sweep(folder: Path) -> None:
    """Remove what nobody asked for in a week."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and time.time() - path.stat().st_mtime > _KEPT_S:
            path.unlink(missing_ok=True)
