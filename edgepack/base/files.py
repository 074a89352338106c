"""Digests and writes: sha256 of files and values, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgepack.errors import StorageError

# What a write that finds no room ends with: a full disk, a full quota, a file-size limit.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHOOSE = "choose an existing folder that is writable"
_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
)

_CHUNK_BYTES = 1 << 20
_FRESH_S = 60.0
_OURS = "edgepack-"  # how the names of all scratch folders begin that lie where others have theirs too
_OF_ANY_COMMAND = rf"{_OURS}([a-z]+-)?"
_SCRATCH = re.compile(rf"({_OF_ANY_COMMAND}|\.[a-z]+[-.])[0-9a-f]{{16}}")


def written_mark(path: Path) -> list[int]:
    """Return what changes when a file is written: no program can set the time of its last status change."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def crc32_file(path: Path) -> int:
    """Return the CRC-32 of a file as zip has it, read in 1 MiB pieces."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading. Raises ``OSError`` when there is none, or it is a pipe or device, which could block."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def open_own(path: Path, *, append: bool = False) -> IO[bytes]:
    """Open a file for writing that lies in a folder of others: made anew, or, to append, one that is there already.

    A link in its place is not followed, and what is not a regular file is not written to: whoever gave the folder would
    choose what is overwritten. Raises ``OSError``.
    """
    if not append:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb")
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return os.fdopen(handle, "ab")
    os.close(handle)
    raise OSError(errno.EINVAL, "it is not a file of its own", str(path))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return what a file holds. Raises ``OSError`` as ``open_regular``, and when it holds more than ``most_bytes``."""
    with open_regular(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes", str(path))
    return data


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
        if error.errno in (errno.EEXIST, errno.ENOTDIR) and not elsewhere:
            raise StorageError(f"cannot write {path}: a file stands where a folder belongs", hint=_CHOOSE) from error
        if error.errno in _NOT_WRITABLE and not elsewhere:
            raise StorageError(f"cannot write {path}: {error.strerror}", hint=_CHOOSE) from error
        raise


def _is_beside(name: Any, path: Path) -> bool:
    """Say whether ``name`` is ``path``, a folder above it, or a file in its folder."""
    other = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None
    return other is not None and (other == path or other in path.parents or path.parent in other.parents)


@contextmanager
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of ``path`` for writing; fsync and rename it on success, remove it on failure.

    The file has ``mode`` less what the user's umask takes. Raises ``StorageError`` when the disk is full or the folder
    is not writable. A process killed at any moment leaves the old file, or none, or the whole new one under ``path``;
    its temporary neighbour goes with the next write of the same file.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_files(path)
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(handle, "w+b") as file:
                _hold(handle)
                yield file
                file.flush()
                os.fsync(file.fileno())
            name.replace(path)
        except BaseException:
            name.unlink(missing_ok=True)
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


def temporary_folder() -> Path:
    """Return the system's folder for temporary files. Raises ``StorageError`` where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # it tries each by a file of its own, which a full disk does not take
        raise StorageError(
            f"no folder for temporary files can be written: {error.strerror}",
            hint="free some space there, or set TMPDIR to a folder that is writable",
        ) from error


@contextmanager
def scratch_folder(prefix: str = _OURS, parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder that only this user can read, in ``parent`` (None: the system's), and remove it at the end.

    It is held by a lock as long as its process lives; those of killed processes go with the next one of the same
    prefix, or of any command's where the prefix begins with "edgepack-". A process that was forked meanwhile leaves it
    alone, whatever it closes or however it ends.
    """
    root = parent if parent is not None else temporary_folder()
    _sweep_folders(root, prefix)
    folder = root / (prefix + secrets.token_hex(8))  # 64 bits: a name that nobody else gives to a folder
    folder.mkdir(mode=0o700)
    lock, owner = os.open(folder, os.O_RDONLY), os.getpid()
    try:
        _hold(lock)
        yield folder
    finally:
        os.close(lock)
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def in_scratch(path: Path) -> bool:
    """Say whether a file lies in a scratch folder, so that it is gone when the user looks for it."""
    return any(_SCRATCH.fullmatch(folder.name) for folder in path.parents)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes left in ``folder`` of files whose names begin with ``prefix``."""
    for left in _of_dead(folder, re.compile(re.escape(f".{prefix}") + r".*\.[0-9a-f]{8}\.tmp"), 0):
        left.unlink(missing_ok=True)


def _hold(handle: int) -> None:
    """Lock a file or folder; some network file systems have no locks, and nothing is swept there."""
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep_files(path: Path) -> None:
    """Remove what killed processes left of earlier writes of ``path``."""
    made = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.tmp")
    for left in _of_dead(path.parent, made, 0):
        left.unlink(missing_ok=True)


def _sweep_folders(root: Path, prefix: str) -> None:
    """Remove what killed processes left of scratch folders."""
    beginning = _OF_ANY_COMMAND if prefix.startswith(_OURS) else re.escape(prefix)
    for left in _of_dead(root, re.compile(beginning + "[0-9a-f]{16}"), os.O_DIRECTORY):
        shutil.rmtree(left, ignore_errors=True)


def _of_dead(root: Path, made: re.Pattern[str], kind: int) -> Iterator[Path]:
    """Yield our entries of ``root`` whose name we make and whose lock nobody holds, once they are a minute old."""
    try:
        names = [entry.name for entry in os.scandir(root) if made.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        try:
            handle = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | kind)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(handle)
            # Between being made and being locked an entry is fresh, and must be left alone.
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _FRESH_S:
                yield root / name
        except OSError:
            continue  # its process lives, or nothing can be said
        finally:
            os.close(handle)
