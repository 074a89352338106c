"""Bundles' payloads as files for the engines: unpacked once, checked, and kept for the next time.

Engines map files: ONNX Runtime 1.31 loads a 1 GiB model from its path in 1.02 times, from bytes in 2.9 times that much
resident memory (measured), and some engines read nothing but files. So a payload's files are copied out of the
bundle once, into ``$EDGEPACK_CACHE`` (else ``edgepack/payloads`` in the user's cache folder), under the digest of their
contents. An entry appears whole by a rename. It is trusted again as long as sizes, times and inodes of its files are
those noted when they were hashed, else they are hashed again. Users of an entry hold a shared lock on it; entries that
nobody holds are removed, longest unused first, when all together exceed ``$EDGEPACK_CACHE_BYTES``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edgepack.base.files import (
    DISK_FULL,
    scratch_folder,
    sha256_file,
    sha256_json,
    storage_errors,
    sync_folder,
    write_text,
    written_mark,
)
from edgepack.bundle.archive import copy_member, file_entry
from edgepack.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgepack.bundle.archive import Bundle
    from edgepack.specs.bundle import FileEntry, Payload

DEFAULT_LIMIT_BYTES = 4 << 30
_MARKS = "marks.json"
_FILES = "files"
_DAY_S = 86_400
# Only these names are made here, and only they are removed: the folder may be shared with other things.
_KEY = re.compile("[0-9a-f]{32}")
_HALF_COPIED = re.compile(r"\.[0-9a-f]{32}\.([a-z0-9_]{8}|damaged)")


@dataclass(frozen=True)
class Unpacked:
    """A payload's files under ``folder``, by their names in the bundle, usable until ``release`` is called."""

    folder: Path
    _lock: IO[bytes] | None
    _private: ExitStack | None

    def release(self) -> None:
        """Let the files be removed; a private copy is removed now."""
        if self._private is not None:
            self._private.close()
        if self._lock is not None:
            self._lock.close()


def cache_folder() -> Path:
    """Return ``$EDGEPACK_CACHE``, else ``edgepack/payloads`` in the user's cache folder."""
    if folder := os.environ.get("EDGEPACK_CACHE"):
        return Path(folder).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return ((Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "payloads").absolute()


def unpack(bundle: Bundle, payload: Payload, file: IO[bytes]) -> Unpacked:
    """Return the payload's files, from the cache or copied from the bundle's open ``file``.

    Where the cache cannot be written, the files are a private copy in the temporary folder. Raises ``IntegrityError``
    when the bundle changed since it was checked, ``StorageError`` when there is room nowhere.
    """
    entries = [file_entry(bundle, name) for name in payload.files]
    limit = limit_bytes()
    root = cache_folder()
    try:
        return _cached(root, bundle, entries, file, limit)
    except (StorageError, OSError) as reason:
        return _private(bundle, entries, file, reason)


def limit_bytes() -> int:
    """Return how large a folder of what can be had again may become. Raises ``ConfigError``."""
    text = os.environ.get("EDGEPACK_CACHE_BYTES", str(DEFAULT_LIMIT_BYTES))
    if not text.isdecimal():
        raise ConfigError(f"EDGEPACK_CACHE_BYTES is {text!r}", hint="write a whole number of bytes, such as 4294967296")
    return int(text)


def _cached(root: Path, bundle: Bundle, entries: list[FileEntry], file: IO[bytes], limit: int) -> Unpacked:
    key = sha256_json([[entry.path, entry.size_bytes, entry.sha256] for entry in entries])[:32]
    folder = root / key
    with storage_errors(folder):
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_foreign(root)
        lock = _lock(root / f"{key}.lock", fcntl.LOCK_SH)
        try:
            if not _is_whole(folder, entries):
                _copy_out(folder, bundle, entries, file)
                _remove_unused(root, limit)
            os.utime(folder / _MARKS)
        except BaseException:
            lock.close()
            raise
    return Unpacked(folder / _FILES, lock, _private=None)


def refuse_foreign(root: Path) -> None:
    """Files in a folder that another user may write are not this user's to trust."""
    status = root.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise StorageError(f"{root} is writable by other users", hint="set EDGEPACK_CACHE to another folder")


def _private(bundle: Bundle, entries: list[FileEntry], file: IO[bytes], reason: Exception) -> Unpacked:
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder())
            _copy_files(folder / _FILES, bundle, entries, file)
        except (StorageError, OSError) as error:
            full = any(_is_full(each) for each in (reason, error))
            raise StorageError(
                f"{'not enough space to unpack' if full else 'cannot unpack'} {bundle.path}: {reason}; {error}",
                hint="set EDGEPACK_CACHE to a folder "
                + ("on a disk with free space" if full else "that only you can write"),
            ) from error
        return Unpacked(folder / _FILES, None, _private=stack.pop_all())


def _is_full(error: BaseException | None) -> bool:
    """Say whether an error, or what it came from, is that of a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        error = error.__cause__
    return False


def _lock(path: Path, kind: int) -> IO[bytes]:
    """Open and lock ``path``; where the file system knows no locks, it counts as locked."""
    handle = path.open("ab")
    try:
        fcntl.flock(handle, kind)
    except BlockingIOError:
        handle.close()
        raise
    except OSError:
        pass
    return handle


def _is_whole(folder: Path, entries: list[FileEntry]) -> bool:
    """Return whether the cached files are those of ``entries``; cheap unless something touched them."""
    try:
        known = json.loads((folder / _MARKS).read_bytes())
        paths = [folder / _FILES / entry.path for entry in entries]
        if all(known.get(entry.path) == written_mark(path) for entry, path in zip(entries, paths, strict=True)):
            return True
        if any(sha256_file(path) != entry.sha256 for entry, path in zip(entries, paths, strict=True)):
            return False
        _write_marks(folder, entries)
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _write_marks(folder: Path, entries: list[FileEntry]) -> None:
    marks: Mapping[str, list[int]] = {entry.path: written_mark(folder / _FILES / entry.path) for entry in entries}
    write_text(folder / _MARKS, json.dumps(marks))


def _copy_out(folder: Path, bundle: Bundle, entries: list[FileEntry], file: IO[bytes]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _copy_files(scratch / _FILES, bundle, entries, file)
        _write_marks(scratch, entries)
        sync_folder(scratch)
        while True:
            try:
                scratch.rename(folder)
                break
            except OSError:  # a damaged entry is in the way, or another process was faster
                if _is_whole(folder, entries):
                    break
                damaged = scratch.with_suffix(".damaged")
                folder.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy_files(folder: Path, bundle: Bundle, entries: list[FileEntry], file: IO[bytes]) -> None:
    for entry in entries:
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage_errors(path), path.open("xb") as out:
            copy_member(bundle, entry.path, file, out)
            out.flush()
            os.fsync(out.fileno())
        path.chmod(0o444)


def _remove_unused(root: Path, limit: int) -> None:
    """Remove entries longest unused first, until all are within ``limit``; those in use stay.

    What a killed process left half-copied goes too, a day after.
    """
    for left in root.glob(".*.*"):
        if _HALF_COPIED.fullmatch(left.name) and time.time() - left.stat().st_mtime > _DAY_S:
            shutil.rmtree(left, ignore_errors=True)
    found = []
    for marks in root.glob(f"*/{_MARKS}"):
        folder = marks.parent
        if not _KEY.fullmatch(folder.name):
            continue
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        found.append((marks.stat().st_mtime_ns, size, folder))
    total = sum(size for _, size, _ in found)
    for _, size, folder in sorted(found):
        if total <= limit:
            return
        with _exclusively(root / f"{folder.name}.lock") as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)
                total -= size


@contextmanager
def _exclusively(path: Path) -> Iterator[bool]:
    try:
        handle = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        handle.close()
