"""The folder of a store: what it holds, who may write into it, and how its entries are made and removed whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepack.base.files import sha256_file, sha256_json
from edgepack.errors import StorageError

VALUE = "_value.json"
DIGESTS = "digests.json"
KIND = "a store of edgepack"
_LOGS = "logs"
_STAGE = re.compile("[a-z][a-z0-9_]*")
_OWN_FILE = re.compile(r"digests\.json|\.digests\.json\.[0-9a-f]{8}\.tmp|in-use\.lock")
_OWN_ENTRY = re.compile(r"[0-9a-f]{32}|\.([0-9a-f]{8}|old)\.[a-z0-9_]{8}")
_OWN_LOG = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{8}\.log")


def is_made_by_us(entry: Path) -> bool:
    """Say whether an entry of a store is one that a store makes: a stage with its outputs, the digests, logs."""
    if entry.is_symlink() or not entry.is_dir():
        return bool(_OWN_FILE.fullmatch(entry.name))
    inner = _OWN_LOG if entry.name == _LOGS else _OWN_ENTRY
    names = [path.name for path in entry.iterdir()]
    return bool(_STAGE.fullmatch(entry.name)) and bool(names) and all(inner.fullmatch(name) for name in names)


def is_entry(folder: Path) -> bool:
    """Say whether a folder is a finished entry: none that is being made, and no link to elsewhere."""
    name = folder.name
    return not name.startswith(".") and bool(_OWN_ENTRY.fullmatch(name)) and folder.resolve() == folder.absolute()


def remove_ours(entry: Path) -> None:
    """Remove an entry of the store's folder, as far as a store made it."""
    if entry.is_symlink() or not entry.is_dir():
        if _OWN_FILE.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
        return
    if not _STAGE.fullmatch(entry.name):
        return
    inner = _OWN_LOG if entry.name == _LOGS else _OWN_ENTRY
    for path in entry.iterdir():
        if path.is_dir() and not path.is_symlink() and inner is _OWN_ENTRY and inner.fullmatch(path.name):
            shutil.rmtree(path)
        elif inner is _OWN_LOG and inner.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files are left in it
        entry.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes and threads from publishing in ``folder``; without locks for folders, nothing is kept."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def scratch_entry(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new hidden folder that is locked as long as its process lives, and removed at the end if still there."""
    folder = parent / f".{name}.{secrets.token_hex(4)}"
    folder.mkdir()  # as the user's umask says: it becomes an entry
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not lock folders; nothing is swept there
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove the hidden folders of processes that were killed."""
    for folder in parent.glob(".*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its process lives, or nothing can be said
        else:
            # Between being made and being locked a folder is empty and fresh, and must be left alone.
            if time.time() - os.fstat(lock).st_mtime > 60:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def describe(folder: Path) -> dict[str, list[Any]]:
    """Return [size, sha256] of every file below ``folder`` by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, sha256_file(path)] for path in files}


def sealed(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the document of an entry with the key that it is of, and a digest of all that it says."""
    return {**document, "key": key, "digest": _digest(document, key)}


def is_sealed(document: Mapping[str, Any], folder: Path) -> bool:
    """Say whether a document is as it was written, and of the entry that the folder is; one being made has no name."""
    key = document["key"]
    named = folder.name.startswith(".") or folder.name == key[: len(folder.name)]
    return bool(named and document["digest"] == _digest(document, key))


def _digest(document: Mapping[str, Any], key: str) -> str:
    return sha256_json([key, *(document[name] for name in ("stage", "version", "files", "value"))])


def make_own(folder: Path) -> None:
    """Make a folder that this user alone may write, whatever the umask; refuse one that others may."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True, mode=0o755)
    refuse_foreign(folder)


def refuse_foreign(folder: Path) -> None:
    """Raise ``StorageError`` for a folder that is another user's, or that others may write: it is not to be trusted."""
    try:
        status = folder.stat()
    except OSError:
        return  # nothing to read there
    if status.st_uid not in (os.geteuid(), 0):
        raise StorageError(
            f"{folder} belongs to another user, so what is stored there is not used",
            hint="set EDGEPACK_STORE, or --store, to a folder of yours",
        )
    if status.st_mode & 0o022:
        raise StorageError(
            f"other users can write to {folder}, so what is stored there is not used",
            hint=f"chmod -R go-w {folder}, or set EDGEPACK_STORE, or --store, to a folder that is yours alone",
        )
