"""What a shared store holds, whether it is whole, and what is removed of it first: what was written longest ago."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import ConfigError, StorageError
from edgepack.execution.shared.record import MOST_BYTES, BadRecordError, Record, is_key, is_stage, read_record
from edgepack.execution.shared.remote import AbsentError, DamagedError, Named, RemoteError
from edgepack.execution.shared.shared import SharedStore, blob_name

# A blob that no record names may be one whose record is being written: it is left alone for so long.
_GRACE_S = 24 * 3600.0


@dataclass(frozen=True)
class SharedEntry:
    """An output in a shared store: ``bad`` says why its record cannot be used."""

    stage: str
    key: str
    name: str
    size_bytes: int
    written_s: float
    record: Record | None
    bad: str = ""


@dataclass(frozen=True)
class Damage:
    """Something in a shared store that cannot be used: its name there, and why."""

    name: str
    why: str


def entries_of_shared(shared: SharedStore) -> tuple[SharedEntry, ...]:
    """Return what a shared store holds, the oldest first. Raises ``StorageError`` where it cannot be asked."""
    with _asked(shared):
        found = [_entry(shared, named) for named in shared.remote.list("records")]
    return tuple(sorted(found, key=lambda entry: (entry.written_s, entry.name)))


def prune_shared(shared: SharedStore, older_than_s: float | None, most_bytes: int | None) -> tuple[SharedEntry, ...]:
    """Remove what was written before a time, then the oldest until ``most_bytes`` are left; return what was removed.

    Records go first: then what no record names, unless it is so new that its record may be on its way. Raises
    ``ConfigError`` for one that is to be read only.
    """
    check_writable(shared)
    entries = entries_of_shared(shared)
    users: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for entry in entries:
        for sha256, size in _blobs(entry).items():
            users[sha256] = users.get(sha256, 0) + 1
            sizes[sha256] = size
    left = sum(sizes.values())
    removed = []
    with _asked(shared):
        for entry in entries:
            old = older_than_s is not None and entry.written_s < older_than_s
            if not (old or entry.bad or (most_bytes is not None and left > most_bytes)):
                continue
            shared.remote.remove(entry.name)
            removed.append(entry)
            for sha256 in _blobs(entry):
                users[sha256] -= 1
                left -= sizes[sha256] if users[sha256] == 0 else 0
        named = {blob_name(sha256) for sha256, count in users.items() if count > 0}
        ours = {blob_name(sha256) for sha256, count in users.items() if count == 0}
        for blob in shared.remote.list("blobs"):
            # Those of records that went just now go with them: whoever writes one again looks once more at the end.
            if blob.name not in named and (blob.name in ours or _is_left(shared, blob)):
                shared.remote.remove(blob.name)
    return tuple(removed)


def verify_shared(shared: SharedStore) -> tuple[Damage, ...]:
    """Read everything and return what cannot be used, but for what others remove meanwhile.

    Raises ``StorageError`` where the store cannot be asked.
    """
    checked: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder, _asked(shared):
        found = [
            Damage(entry.name, why)
            for entry in entries_of_shared(shared)
            if (why := _problem(shared, entry, Path(folder), checked)) and shared.remote.size(entry.name) is not None
        ]
    return tuple(found)


def remove_damaged(shared: SharedStore, damages: tuple[Damage, ...]) -> None:
    """Remove the records that cannot be used, and the blobs at fault; a build makes them again.

    Each is looked at once more: a build may have made it again since. Raises ``ConfigError`` for one that is to be read
    only.
    """
    check_writable(shared)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder, _asked(shared):
        for damage in damages:
            entry = _entry(shared, Named(damage.name, 0, 0.0))
            why = _problem(shared, entry, Path(folder), {})
            if why:
                shared.remote.remove(damage.name)
            if why.startswith("blobs/"):
                shared.remote.remove(why.split()[0])


def check_writable(shared: SharedStore) -> None:
    """Raise ``ConfigError`` for a store that is to be read only."""
    if shared.remote.address.read_only:
        raise ConfigError(
            f"{shared.url} is given as read-only: nothing is removed there", hint="leave ?read-only away to remove it"
        )


def _problem(shared: SharedStore, entry: SharedEntry, folder: Path, checked: dict[str, str]) -> str:
    """Return why an output cannot be used, "" where it can; ``checked`` has the same of the blobs that were read."""
    why = entry.bad
    for blob in entry.record.files.values() if entry.record is not None else ():
        if blob.sha256 not in checked:
            checked[blob.sha256] = _check_blob(shared, blob.sha256, blob.size_bytes, folder / "blob")
        why = why or checked[blob.sha256]
    return why


def _entry(shared: SharedStore, named: Named) -> SharedEntry:
    parts = named.name.removesuffix(".json").split("/")
    if len(parts) != 3 or not named.name.endswith(".json") or not is_stage(parts[1]) or not is_key(parts[2]):
        return SharedEntry("", "", named.name, named.size_bytes, named.written_s, None, "edgepack did not make it")
    record, bad = None, ""
    try:
        data = shared.remote.read(named.name, MOST_BYTES)
        record = read_record(data, parts[1], parts[2], shared.secret)
    except (AbsentError, BadRecordError, DamagedError) as error:
        bad = "it is gone" if isinstance(error, AbsentError) else str(error)
    size = record.size_bytes if record is not None else 0
    return SharedEntry(parts[1], parts[2], named.name, size, named.written_s, record, bad)


def _blobs(entry: SharedEntry) -> dict[str, int]:
    files = entry.record.files.values() if entry.record is not None else ()
    return {blob.sha256: blob.size_bytes for blob in files}


def _is_left(shared: SharedStore, blob: Named) -> bool:
    """Say whether something that no record names was left by a write that was ended; others' names are not touched."""
    parts = blob.name.split("/")
    ours = len(parts) == 3 and (
        (is_key(parts[2]) and parts[2][:2] == parts[1]) or shared.remote.is_temporary(blob.name)
    )
    return ours and time.time() - blob.written_s > _GRACE_S


def _check_blob(shared: SharedStore, sha256: str, size_bytes: int, to: Path) -> str:
    name = blob_name(sha256)
    try:
        found = shared.remote.size(name)
        if found != size_bytes:
            return f"{name} is missing" if found is None else f"{name} has {found} bytes, not {size_bytes}"
        shared.remote.download(name, to, size_bytes, sha256)
    except AbsentError:
        return f"{name} is missing"
    except DamagedError as error:
        return str(error)
    return ""


@contextmanager
def _asked(shared: SharedStore) -> Iterator[None]:
    """Turn the failure of a shared store into the error of a command that is about it."""
    try:
        yield
    except RemoteError as error:
        raise StorageError(
            f"the shared store {shared.url} fails: {error}",
            hint="see whether its address, the network and your credentials are right",
        ) from error
