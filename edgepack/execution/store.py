"""The store of stage outputs: each under the digest of all its inputs, so that nothing is done twice.

An entry is a folder ``<stage>/<digest>/`` with what the stage wrote and ``_value.json``: what it returned, size and
sha256 of each file, and a digest of all this. It appears whole by a rename or not at all, also when the process is
killed, and several processes may use one store at once. What is reused is hashed first, once a process: size and time
can be kept by what changes a file, and what is packed and verified comes from here. A folder that other users may write
is not used.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from edgepack.base import documents
from edgepack.base.files import sha256_json, storage_errors, sync_folder, write_text
from edgepack.base.owned import MARKER, check_ours, mark
from edgepack.errors import ConfigError, StorageError
from edgepack.execution.digests import Digests
from edgepack.execution.store_folder import (
    DIGESTS,
    KIND,
    VALUE,
    describe,
    is_entry,
    is_made_by_us,
    is_sealed,
    locked,
    make_own,
    refuse_foreign,
    remove_ours,
    scratch_entry,
    sealed,
    sweep,
)

T = TypeVar("T")


def default_folder() -> Path:
    """Return ``$EDGEPACK_STORE`` where that is a folder, else ``edgepack/store`` in the user's cache folder."""
    if (folder := os.environ.get("EDGEPACK_STORE")) and "://" not in folder:
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "store"


class Behind(Protocol):
    """A store that is asked for what this one does not have, and is given what is made here: one that others share.

    ``tell`` is called with what the user should know.
    """

    tell: Callable[[str], None]

    def fetch(self, stage: str, key: str, into: Path) -> dict[str, Any] | None:
        """Write the checked files of an output into an empty folder; return its document, None where there is none."""

    def keep(self, key: str, document: Mapping[str, Any], folder: Path) -> None:
        """Take an output that was made here."""


@dataclass(frozen=True)
class Kept(Generic[T]):
    """An output that was found; what a stage returned may itself be None."""

    value: T


class Store:
    """Stage outputs in ``folder``; ``ran`` and ``reused`` name the stages that were, and were not, run through it.

    With ``behind`` it is the local part of a store that several machines share.
    """

    def __init__(self, folder: Path, behind: Behind | None = None) -> None:
        self.folder = folder.absolute()
        self.behind = behind
        self.ran: list[str] = []
        self.reused: list[str] = []
        self._inputs = Digests(self.folder / DIGESTS)
        self._outputs = Digests()  # of the store's own files, which each process hashes itself
        self._claimed = False
        self._calls = _Calls()

    def run(
        self,
        stage: str,
        version: int,
        inputs: Mapping[str, Any],
        kind: type[T],
        function: Callable[[Path], T],
        fresh: Callable[[Path], bool] = lambda _: True,
        *,
        shared: bool = True,
    ) -> T:
        """Return the stored output for ``inputs``, else call ``function`` with an empty folder and store its result.

        ``inputs`` must name everything the output depends on: digests of files, options, versions of tools. A stored
        entry whose files are missing or changed is made again, and so is one for whose folder ``fresh`` says no.
        ``shared`` says no for what was measured here: no other machine may take it. Raises ``StorageError`` on a full
        disk, and where other users may write into the store.
        """
        key, final = self._place(stage, version, inputs)
        with self._calls.alone(key):
            found = self._stored(stage, key, final, kind, fresh, shared=shared)
            if found is not None:
                self.reused.append(stage)
                return found.value
            self._make(stage, version, key, final, kind, function, fresh)
            result = self._read(final, kind)
            if result is None:
                raise StorageError(
                    f"{final} disappeared while it was in use", hint="do not clear the store during a build"
                )
            if self.behind is not None and shared and _is_portable(result.value, final):
                self.behind.keep(key, json.loads((final / VALUE).read_bytes()), final)
            return result.value

    def find(
        self,
        stage: str,
        version: int,
        inputs: Mapping[str, Any],
        kind: type[T],
        fresh: Callable[[Path], bool] = lambda _: True,
        *,
        shared: bool = True,
    ) -> Kept[T] | None:
        """Return the stored output for ``inputs``, None where ``run`` would make one."""
        key, final = self._place(stage, version, inputs)
        return self._stored(stage, key, final, kind, fresh, shared=shared)

    def tell_by(self, note: Callable[[str], None]) -> None:
        """Let the store behind this one tell what the user should know by ``note``."""
        if self.behind is not None:
            self.behind.tell = note

    def beside(self) -> Store:
        """Return this store for one of several threads: what it runs and reuses is counted by itself.

        Two that ask for the same output at once make it once.
        """
        self._inputs.load()
        other = copy.copy(self)
        other.ran, other.reused = [], []
        return other

    def count(self, other: Store) -> None:
        """Count what another thread's store ran and reused as this one's."""
        self.ran += other.ran
        self.reused += other.reused

    def _place(self, stage: str, version: int, inputs: Mapping[str, Any]) -> tuple[str, Path]:
        """Return the key of an output and its folder; refuse a store that others may write."""
        refuse_foreign(self.folder)
        refuse_foreign(self.folder / stage)
        key = sha256_json(documents.encode({"stage": stage, "version": version, "inputs": inputs}))
        return key, self.folder / stage / key[:32]

    def _stored(
        self, stage: str, key: str, final: Path, kind: type[T], fresh: Callable[[Path], bool], *, shared: bool
    ) -> Kept[T] | None:
        """Return what is stored here, else what the store behind this one has."""
        found = self._read(final, kind)
        if found is not None and fresh(final):
            if self.behind is not None:
                _touch(final / VALUE)  # what was used last leaves the local part last
            return found
        if self.behind is None or not shared:
            return None
        if not self._fetch(self.behind, stage, key, final, kind, fresh):
            return None
        return self._read(final, kind)

    def _fetch(
        self, behind: Behind, stage: str, key: str, final: Path, kind: type[T], fresh: Callable[[Path], bool]
    ) -> bool:
        """Put an output of the store behind this one in its place here; say no where it has none that may be used."""
        self.claim()
        with storage_errors(final):
            make_own(final.parent)
            with scratch_entry(final.parent, key[:8]) as scratch:
                document = behind.fetch(stage, key, scratch)
                if document is None:
                    return False
                write_text(scratch / VALUE, json.dumps(sealed(document, key), indent=1))
                found = self._read(scratch, kind)
                if found is None or not _is_portable(found.value, scratch) or not fresh(scratch):
                    return False
                self._publish(scratch, final, lambda: self._read(final, kind) is not None and fresh(final))
        return True

    def _make(
        self,
        stage: str,
        version: int,
        key: str,
        final: Path,
        kind: type[T],
        function: Callable[[Path], T],
        fresh: Callable[[Path], bool],
    ) -> None:
        """Call the function, and put what it makes in its place."""
        self.claim()
        self.ran.append(stage)
        with storage_errors(final):
            make_own(final.parent)
            sweep(final.parent)
            with scratch_entry(final.parent, key[:8]) as scratch:
                value = function(scratch)
                document = {
                    "stage": stage,
                    "version": version,
                    "files": describe(scratch),
                    "value": documents.encode(value, scratch),
                }
                write_text(scratch / VALUE, json.dumps(sealed(document, key), indent=1))
                self._publish(scratch, final, lambda: self._read(final, kind) is not None and fresh(final))

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file, from the last time when its size, times and inode are unchanged."""
        return self._inputs.sha256(path)

    def save(self) -> None:
        """Keep the file digests for the next run."""
        if self._inputs.changed:
            self.claim()
            self._inputs.write()

    def size_bytes(self) -> int:
        """Return the bytes of all files in the store. Raises ``ConfigError`` when the folder is not one."""
        check_ours(self.folder, KIND, is_made_by_us)
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process may be at work
                total += path.stat().st_size if path.is_file() else 0
        return total

    def entries(self) -> tuple[Path, ...]:
        """Return the folders of what is stored, sorted. Raises ``ConfigError`` when the folder is not a store."""
        check_ours(self.folder, KIND, is_made_by_us)
        return tuple(sorted(path.parent for path in self.folder.glob(f"*/*/{VALUE}") if is_entry(path.parent)))

    def damaged(self) -> tuple[Path, ...]:
        """Return those of ``entries`` whose files are not as they were stored; every file is read.

        What another process removes meanwhile is none of them.
        """
        self._outputs.forget()
        return tuple(entry for entry in self.entries() if not self._is_whole(entry) and entry.exists())

    def remove(self, entry: Path, *, damaged: bool = False) -> bool:
        """Remove one of ``entries``: it disappears whole, as a reader must never meet half of one.

        With ``damaged`` only where it still is: another process may have made it again. Say whether it was removed.
        """
        with storage_errors(entry), locked(entry.parent), scratch_entry(entry.parent, "old") as trash:
            if damaged and self._is_whole(entry):
                return False
            with contextlib.suppress(FileNotFoundError):  # another process was first
                entry.replace(trash / "entry")
                return True
        return False

    def clear(self) -> None:
        """Remove everything that was stored, and nothing else.

        Raises ``ConfigError`` when the folder is not a store, ``StorageError`` when removing is not allowed.
        """
        check_ours(self.folder, KIND, is_made_by_us)
        self._inputs.forget()
        self._claimed = False
        if not self.folder.exists():
            return
        with storage_errors(self.folder):
            for entry in [*self.folder.iterdir()]:
                remove_ours(entry)
            if not [left for left in self.folder.iterdir() if left.name != MARKER]:
                (self.folder / MARKER).unlink(missing_ok=True)
                self.folder.rmdir()

    def claim(self) -> None:
        """Mark the folder as a store before anything is written into it. Raises ``ConfigError`` for another's."""
        if not self._claimed:
            check_ours(self.folder, KIND, is_made_by_us)
            with storage_errors(self.folder):
                make_own(self.folder)
            mark(self.folder, KIND)
            self._claimed = True

    def _publish(self, scratch: Path, final: Path, is_made: Callable[[], bool]) -> None:
        """Move a finished entry to its place, unless another process was first; its files are on disk before."""
        for path in [*scratch.rglob("*"), scratch]:
            if path.is_dir():
                sync_folder(path)
            elif path.name != VALUE:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        with locked(
            final.parent
        ):  # else a whole entry that appears after the question would be taken for a damaged one
            if is_made():
                return
            if final.exists():  # a damaged entry makes room by a rename, as a reader must never meet half of one
                with scratch_entry(final.parent, "old") as trash:
                    final.replace(trash / "entry")
            scratch.replace(final)
            sync_folder(final.parent)

    def _read(self, folder: Path, kind: type[T]) -> Kept[T] | None:
        """Return what a whole, unchanged entry holds, else None."""
        try:
            document = json.loads((folder / VALUE).read_bytes())
            if not self._holds(folder, document):
                return None
            value = documents.decode(kind, document["value"], str(folder), folder)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError, ConfigError):
            return None
        return Kept(value)

    def _is_whole(self, folder: Path) -> bool:
        try:
            return self._holds(folder, json.loads((folder / VALUE).read_bytes()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return False

    def _holds(self, folder: Path, document: Any) -> bool:
        """Say whether an entry's document is as it was written, and the entry holds the files that it names."""
        return is_sealed(document, folder) and all(
            self._is_unchanged(folder / name, *entry) for name, entry in document["files"].items()
        )

    def _is_unchanged(self, path: Path, size: int, digest: str) -> bool:
        """Say whether a file of an entry holds what was stored, by its contents unless they were hashed just now."""
        return path.stat().st_size == size and self._outputs.sha256(path) == digest


class _Calls:
    """Keeps threads of this process from making the same output at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until no other thread works on ``key``."""
        with self._lock:
            lock, users = self._running.get(key, (threading.Lock(), 0))
            self._running[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._running[key]
                if users == 1:
                    del self._running[key]
                else:
                    self._running[key] = lock, users - 1


def _is_portable(value: Any, folder: Path) -> bool:
    """Say whether all paths in a value are of files below ``folder``: others mean nothing on another machine."""
    if isinstance(value, Path):
        return value.is_relative_to(folder) and ".." not in value.parts
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(_is_portable(getattr(value, f.name), folder) for f in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return all(_is_portable(item, folder) for item in value.values())
    return not isinstance(value, list | tuple) or all(_is_portable(item, folder) for item in value)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):  # another user's store
        os.utime(path)
