"""An OCI image layout: a folder with blobs by their digest and an index of tags; a cache, or a stick that travels.

Whoever gave the stick may have put links and pipes where files are expected: none is followed, and none blocks.
Several processes may use a folder at once: each blob is brought by one of them, and the index changes by one at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgepack.base.documents import read_json
from edgepack.base.files import open_own, open_regular, storage_errors, sync_folder, write_text
from edgepack.errors import ConfigError, IntegrityError, StorageError
from edgepack.registry.client import MANIFEST_LIMIT_BYTES, MANIFEST_TYPE, digest_of

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_REF = "org.opencontainers.image.ref.name"
_CHUNK_BYTES = 1 << 20
_MARK, _INDEX = "oci-layout", "index.json"
_PART = re.compile(r"\.([0-9a-f]{16}|[0-9a-f]{64})\.(part|lock)")
_KEPT_S = 7 * 86_400.0  # of what was cut off: after that it is read anew
_IN_USE_S = 3600.0  # a blob that was used so lately may be another process's
_SILENT_S, _LOOK_S = 60.0, 0.2


class Layout:
    """A folder in the form of the OCI image specification 1.1, which is made when something is stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def blob(self, digest: str) -> Path:
        """Return where a blob is or would be. Raises ``ConfigError`` for what is not a digest."""
        if not _DIGEST.fullmatch(digest):
            raise ConfigError(f"{digest[:80]!r} is not a digest")
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def half(self, digest: str) -> Path:
        """Return where a blob lies while it comes."""
        return self.folder / "blobs" / f".{self.blob(digest).name}.part"

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold a blob by its digest, or the index, against other processes while it is brought or changed.

        Raises ``StorageError`` when another one holds it and nothing has come of it for a minute.
        """
        self.begin()
        lock = self.folder / "blobs" / f".{name.removeprefix('sha256:')}.lock"
        half = lock.with_suffix(".part")
        size, deadline = -1, 0.0
        while True:
            with storage_errors(lock):
                handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            try:
                if _hold(handle) and _is_still(handle, lock):
                    try:
                        yield
                    finally:
                        lock.unlink(missing_ok=True)
                    return
            finally:
                os.close(handle)
            come = _size(half)
            if come != size:
                size, deadline = come, time.monotonic() + _SILENT_S
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"another process is writing to {self.folder}, and nothing has come for {_SILENT_S:.0f} s",
                    hint="end it, or wait until it has finished",
                )
            time.sleep(_LOOK_S)

    def has(self, digest: str, size: int) -> bool:
        """Say whether a blob is there, whole; a damaged one is removed, where that is possible."""
        path = self.blob(digest)
        if not path.is_file():
            return False
        if path.stat().st_size == size and _digest(path) == digest:
            with contextlib.suppress(OSError):
                os.utime(path)  # used now
            return True
        self.drop(digest)
        return False

    def drop(self, digest: str) -> None:
        """Remove a damaged blob; a folder that cannot be written keeps it."""
        with contextlib.suppress(OSError):
            self.blob(digest).unlink()

    def trim(self, limit_bytes: int) -> None:
        """Remove blobs, longest unused first, until all are within a limit; those used in the last hour stay."""
        with contextlib.suppress(OSError):  # another process removes some, too
            blobs = (self.folder / "blobs" / "sha256").iterdir()
            found = sorted((status.st_mtime, status.st_size, path) for path in blobs for status in [path.stat()])
            total = sum(size for _, size, _ in found)
            for used, size, path in found:
                if total <= limit_bytes or used > time.time() - _IN_USE_S:
                    return
                path.unlink(missing_ok=True)
                total -= size

    def sweep(self) -> None:
        """Remove what processes that were cut off left, after a week in which nobody went on with it."""
        with contextlib.suppress(OSError):
            for path in (self.folder / "blobs").iterdir():
                if _PART.fullmatch(path.name) and path.lstat().st_mtime < time.time() - _KEPT_S:
                    path.unlink(missing_ok=True)

    def take(self, digest: str) -> Path:
        """Let a blob that came whole have its name."""
        self.begin()
        self.half(digest).replace(self.blob(digest))
        sync_folder(self.blob(digest).parent)
        return self.blob(digest)

    def add(self, file: IO[bytes], size: int) -> tuple[str, int]:
        """Copy the next ``size`` bytes of a file into the folder and return their digest and number."""
        self.begin()
        scratch = self.folder / "blobs" / f".{secrets.token_hex(8)}.part"
        digest, came = hashlib.sha256(), 0
        with storage_errors(scratch):
            try:
                with scratch.open("xb") as out:
                    while came < size and (piece := file.read(min(_CHUNK_BYTES, size - came))):
                        digest.update(piece)
                        came += len(piece)
                        out.write(piece)
                    out.flush()
                    os.fsync(out.fileno())
                name = f"sha256:{digest.hexdigest()}"
                scratch.replace(self.blob(name))
            finally:
                scratch.unlink(missing_ok=True)
        return name, came

    def add_bytes(self, data: bytes) -> str:
        """Store some bytes and return their digest."""
        self.begin()
        digest = digest_of(data)
        path = self.folder / "blobs" / f".{secrets.token_hex(8)}.part"
        with storage_errors(path):
            with open_own(path) as file:
                file.write(data)
            path.replace(self.blob(digest))
        return digest

    def read(self, digest: str) -> bytes:
        """Return a small blob, checked. Raises ``IntegrityError``, and ``ConfigError`` without one."""
        try:
            with open_regular(self.blob(digest)) as file:
                data = file.read(MANIFEST_LIMIT_BYTES + 1)
        except OSError:
            raise ConfigError(f"{self.folder} has no {digest}", hint="copy the folder whole") from None
        if digest_of(data) != digest:
            raise IntegrityError(f"{self.folder}: {digest} was damaged", hint="copy the folder again")
        return data

    def tag(self, name: str, digest: str, size: int, artifact: str) -> None:
        """Let a tag name a manifest, in place of another one."""
        entry = {
            "mediaType": MANIFEST_TYPE, "digest": digest, "size": size, "artifactType": artifact,
            "annotations": {_REF: name},
        }  # fmt: skip
        with self.alone(_INDEX):
            others = [each for each in self._manifests() if _name(each) != name]
            index = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [*others, entry],
            }
            write_text(self.folder / _INDEX, json.dumps(index, indent=1) + "\n")

    def find(self, name: str) -> str:
        """Return the digest of a tag's manifest. Raises ``ConfigError`` with the tags that there are."""
        for entry in self._manifests():
            if _name(entry) == name and isinstance(entry.get("digest"), str):
                self.blob(entry["digest"])
                return str(entry["digest"])
        known = ", ".join(sorted(filter(None, map(_name, self._manifests())))) or "none"
        raise ConfigError(f"{self.folder} has no tag {name!r}", hint=f"its tags: {known}")

    def begin(self) -> None:
        """Make the folder, where it is not one already."""
        with storage_errors(self.folder):
            (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for inner in (self.folder / "blobs", self.folder / "blobs" / "sha256"):
            if inner.is_symlink():
                raise ConfigError(f"{inner} is a link to another folder", hint="give a folder that holds its own blobs")
        if not (self.folder / _MARK).exists():
            write_text(self.folder / _MARK, '{"imageLayoutVersion":"1.0.0"}')

    def _manifests(self) -> list[dict[str, Any]]:
        path = self.folder / _INDEX
        try:
            with open_regular(path) as file:
                data = read_json(file.read(MANIFEST_LIMIT_BYTES))
            found = data["manifests"]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="copy the folder again") from None
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _name(entry: dict[str, Any]) -> str | None:
    notes = entry.get("annotations")
    name = notes.get(_REF) if isinstance(notes, dict) else None
    return name if isinstance(name, str) else None


def _hold(handle: int) -> bool:
    """Lock an open file; some network file systems have no locks, and there each process is alone."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _is_still(handle: int, path: Path) -> bool:
    """Say whether a path still leads to an open file, which whoever held it before has removed."""
    try:
        return os.fstat(handle).st_ino == path.lstat().st_ino
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
