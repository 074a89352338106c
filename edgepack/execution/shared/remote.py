"""What is asked of a shared file system, through fsspec: whole reads and writes, each tried again when it fails.

A name is written whole or not at all: an object store does so by itself, in a file system by a rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgepack.execution.shared.address import Address
from edgepack.execution.shared.files import open_files

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_TRIES = 3
_PAUSE_S = 0.3  # before the second try, and three times as long before the third
_PIECE_BYTES = 4 << 20
# An answer must not come forever: this long, and as long as this speed takes.
_LEAST_S, _LEAST_BYTES_PER_S = 60.0, 100_000
_TEMPORARY = ".edgepack-"


class RemoteError(Exception):
    """The shared store does not do what it is asked, after several tries."""


class AbsentError(Exception):
    """Nothing has this name."""


class DamagedError(Exception):
    """A blob does not hold what its name says."""


@dataclass(frozen=True)
class Named:
    """Something that is stored: its name below the root, its size, and when it was written, in seconds since 1970."""

    name: str
    size_bytes: int
    written_s: float


class Remote:
    """The names below the root of a shared store."""

    def __init__(self, address: Address, pause_s: float = _PAUSE_S) -> None:
        """Open it without asking it anything. Raises ``ToolchainError`` where a package is missing."""
        self.address, self._pause_s = address, pause_s
        self._files = open_files(address)

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return what a name holds. Raises ``AbsentError``, ``RemoteError``, ``DamagedError`` above ``most_bytes``."""
        self._refuse_special(name)
        data: bytes = self._again(lambda: self._files.cat_file(self._path(name), start=0, end=most_bytes + 1))
        if len(data) > most_bytes:
            raise DamagedError(f"{name} has more than {most_bytes} bytes")
        return data

    def download(self, name: str, to: Path, size_bytes: int, sha256: str) -> None:
        """Write what a name holds into a new file. Raises as ``read``, and ``DamagedError`` for another digest."""

        def once() -> str:
            digest = hashlib.sha256()
            with to.open("wb") as file:
                for piece in self._pieces(name, size_bytes):
                    digest.update(piece)
                    file.write(piece)
            return digest.hexdigest()

        self._refuse_special(name)
        for last in (False, True):  # what was cut on its way is whole at the second time
            if self._again(once) == sha256:
                return
            if last:
                raise DamagedError(f"{name} does not hold what its name says")

    def _refuse_special(self, name: str) -> None:
        """Raise ``DamagedError`` for a pipe or device in a folder, which would be waited for without end."""
        if self.address.protocol != "file":
            return
        with contextlib.suppress(OSError):  # there is none: who reads it says so
            if not stat.S_ISREG(Path(self._path(name)).stat().st_mode):
                raise DamagedError(f"{name} is not a regular file")

    def write(self, name: str, data: bytes) -> None:
        """Make a name hold ``data``. Raises ``RemoteError``."""
        self._put(name, lambda path: self._files.pipe_file(path, data))

    def upload(self, name: str, source: Path) -> None:
        """Make a name hold what a file holds. Raises ``RemoteError``."""
        self._put(name, lambda path: self._files.put_file(str(source), path))

    def size(self, name: str) -> int | None:
        """Return the bytes under a name, None where there is none. Raises ``RemoteError``."""
        try:
            return int(self._again(lambda: self._files.info(self._path(name)))["size"])
        except AbsentError:
            return None

    def list(self, folder: str) -> tuple[Named, ...]:
        """Return all that is stored below a folder, sorted by name. Raises ``RemoteError``."""
        try:
            found = self._again(lambda: self._files.find(self._path(folder), detail=True))
        except AbsentError:
            return ()
        start = len(self.address.root) + 1
        return tuple(
            Named(path[start:], int(info["size"]), _written(info))
            for path, info in sorted(found.items())
            if info["type"] == "file"
        )

    def remove(self, name: str) -> None:
        """Remove a name, if it is there. Raises ``RemoteError``."""
        with contextlib.suppress(AbsentError):
            self._again(lambda: self._files.rm_file(self._path(name)))

    def is_temporary(self, name: str) -> bool:
        """Say whether a name is of a write that is going on, or was ended."""
        return name.rpartition("/")[2].startswith(_TEMPORARY)

    def _path(self, name: str) -> str:
        return f"{self.address.root}/{name}"

    def _pieces(self, name: str, size_bytes: int) -> Iterator[bytes]:
        """Yield the first ``size_bytes`` of a name; what comes too slowly is given up."""
        deadline = time.monotonic() + _LEAST_S + size_bytes / _LEAST_BYTES_PER_S
        for start in range(0, size_bytes, _PIECE_BYTES):
            end = min(start + _PIECE_BYTES, size_bytes)
            piece: bytes = self._files.cat_file(self._path(name), start=start, end=end)
            if time.monotonic() > deadline:
                raise TimeoutError("the shared store answers too slowly")
            yield piece[: end - start]

    def _put(self, name: str, write: Callable[[str], None]) -> None:
        """Write a name so that nobody sees half of it."""
        try:
            self._again(lambda: self._put_once(self._path(name), write))
        except AbsentError as error:
            raise RemoteError(f"there is no such bucket or folder ({error})") from None

    def _put_once(self, path: str, write: Callable[[str], None]) -> None:
        if self.address.protocol != "file":
            write(path)
            return
        folder, _, _ = path.rpartition("/")
        beside = f"{folder}/{_TEMPORARY}{secrets.token_hex(8)}"
        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            write(beside)
            with Path(beside).open("rb") as file:
                os.fsync(file.fileno())
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)

    def _again(self, call: Callable[[], T]) -> T:
        """Return what a call returns; what fails is tried again, unless it is said to be absent or not allowed."""
        pause = self._pause_s
        for number in range(1, _TRIES + 1):
            try:
                return call()
            except FileNotFoundError as error:
                raise AbsentError(str(error)) from None
            except PermissionError as error:
                raise RemoteError(_words(error)) from error
            except Exception as error:
                # The packages below raise errors of their own, of no common kind.
                _LOG.info("%s, try %d: %s", self.address.url, number, error)
                if number == _TRIES or isinstance(error, TypeError | AttributeError):
                    raise RemoteError(_words(error)) from error
            time.sleep(pause)
            pause *= 3
        raise AssertionError("the last try returns or raises")


def _words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _written(info: dict[str, Any]) -> float:
    """Return when something was written: object stores and file systems call it by other names."""
    found = next((info[name] for name in ("LastModified", "mtime", "updated") if info.get(name) is not None), 0.0)
    if isinstance(found, str):
        from datetime import datetime

        found = datetime.fromisoformat(found)
    return float(found.timestamp()) if hasattr(found, "timestamp") else float(found)
