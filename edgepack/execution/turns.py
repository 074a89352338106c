"""Whose turn it is on a machine: stages run beside each other, one that measures time runs alone.

Two files are locked, so that a process that is killed gives its turn back: everybody passes the gate, which who
measures keeps closed while the room empties. Several builds keep the same turns where they share ``folder``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepack.base.files import storage_errors

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """Return what tells this machine, as long as it runs, from every other one."""
    try:
        text = _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        text = os.uname().nodename
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a stage may run on this machine; ``alone``: until no other one runs, and keep others waiting."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    name = machine_id()
    with (
        _locked(folder / f"gate-{name}.log", fcntl.LOCK_EX) as gate,
        _locked(folder / f"room-{name}.log", kind),
    ):
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@contextmanager
def alone_in(out: Path, folder: Path) -> Iterator[int]:
    """Wait until no other stage works in the folder ``out``; ``folder`` is that of the turns.

    Yields a descriptor: the folder is one's own until it is closed, in this process and in those that have it too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"out-{hashlib.sha256(os.fsencode(out)).hexdigest()[:8]}.log"
    while True:
        with _locked(file, fcntl.LOCK_EX) as handle:
            if not _is_at(handle, file):  # whoever was here before has removed it
                continue
            try:
                yield handle
            finally:
                file.unlink(missing_ok=True)
            return


@contextmanager
def build_turn(out: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other build writes into the folder ``out``, which is made; ``tell`` is told where that takes time.

    The folder itself is locked, so that nothing is left in it. Where a file system has no locks nobody waits. Raises
    ``StorageError`` when the folder cannot be made.
    """
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"another build writes into {out}; this one goes on after it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _locked(file: Path, kind: int) -> Iterator[int]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, kind)
        yield handle
    finally:
        os.close(handle)
