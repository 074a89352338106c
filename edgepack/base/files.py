"""Digests and writes: sha256 of files and values, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgepack.errors import StorageError

# What a write that finds no room ends with: a full disk, a full quota, a file-size limit.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
)

_CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hex sha256 of a JSON value in canonical form (sorted keys, no spaces, ASCII)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn "disk full" and "not writable" at or beside ``path`` into a ``StorageError`` that names it."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise StorageError(f"no space left while writing {path}") from error
        elsewhere = error.filename is not None and not _is_beside(error.filename, path)
        if error.errno in _NOT_WRITABLE and not elsewhere:
            raise StorageError(
                f"cannot write {path}: {error.strerror}", hint="choose an existing folder that is writable"
            ) from error
        raise


def _is_beside(name: Any, path: Path) -> bool:
    """Say whether ``name`` is ``path``, a folder above it, or a file in its folder."""
    other = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None
    return other is not None and (other == path or other in path.parents or path.parent in other.parents)


@contextmanager
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of ``path`` for writing; fsync and rename it on success, remove it on failure.

    Raises ``StorageError`` when the disk is full or the folder is not writable. A process killed at any moment leaves
    the old file, or none, or the whole new one under ``path``.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot flush a folder
            raise
    finally:
        os.close(handle)
