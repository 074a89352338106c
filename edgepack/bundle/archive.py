"""Writes and opens bundles: one stored zip in one possible layout, checked whole before anything is given to an engine.

The format is described in docs/bundle-format.md. Standard library and numpy only: devices open bundles with it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from edgepack.base.files import atomic_write
from edgepack.bundle.layout import MANIFEST, SIGNATURE, LayoutError, Member, in_order, lay_out, read_layout
from edgepack.bundle.manifest import MANIFEST_LIMIT_BYTES, read_manifest
from edgepack.errors import BundleError, EdgepackError, IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edgepack.specs.bundle import FileEntry, Manifest

_CHUNK_BYTES = 1 << 20
SIGNATURE_LIMIT_BYTES = 1 << 20
_REPACKED = "copy or build the bundle again; a bundle that was unpacked and zipped by another tool is not one any more"


@dataclass(frozen=True)
class Source:
    """A file that becomes a member, as it was when it was measured."""

    path: Path
    size_bytes: int
    sha256: str
    crc32: int


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte was checked when it was opened.

    ``manifest_sha256`` identifies the contents, because the manifest holds the digest of every other member but the
    ``signature``, which is None where there is none; nothing in it has been believed.
    """

    path: Path
    size_bytes: int
    manifest: Manifest
    manifest_sha256: str
    members: Mapping[str, Member]
    mark: tuple[int, ...] = ()
    signature: bytes | None = None

    @functools.cached_property
    def sha256(self) -> str:
        """Return the hex sha256 of the whole file, as ``sha256sum`` prints it; read when first asked for.

        Raises ``IntegrityError`` when it is not the file any more that was checked.
        """
        with _open(self.path) as file, _reading(self.path):
            digest = hashlib.sha256()
            for piece in _pieces(file, None):
                digest.update(piece)
            if _mark(file) != self.mark:
                raise IntegrityError(f"{self.path} was changed after it was checked", hint="run again")
        return digest.hexdigest()


# --- writing ----------------------------------------------------------------------------------------------------------


def measure(path: Path) -> Source:
    """Read a file once, 1 MiB at a time, for its size and checksums."""
    digest, crc, size = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        for piece in _pieces(file, None):
            digest.update(piece)
            crc = zlib.crc32(piece, crc)
            size += len(piece)
    return Source(path, size, digest.hexdigest(), crc)


def write_archive(out: Path, manifest: bytes, sources: Mapping[str, Source]) -> None:
    """Write a bundle, whole or not at all; the same manifest and files give the same bytes.

    Memory does not grow with the members. Raises ``IntegrityError`` when a file changed since it was measured and
    ``StorageError`` when the disk is full.
    """
    members = [
        Member(MANIFEST, len(manifest), zlib.crc32(manifest))
        if name == MANIFEST
        else Member(name, sources[name].size_bytes, sources[name].crc32)
        for name in in_order([MANIFEST, *sources])
    ]
    layout = lay_out(members)
    with atomic_write(out) as file:
        for member, header in zip(layout.members, layout.headers, strict=True):
            file.write(header)
            if member.name == MANIFEST:
                file.write(manifest)
            else:
                _copy_unchanged(sources[member.name], file)
        file.write(layout.tail)


def _copy_unchanged(source: Source, out: IO[bytes]) -> None:
    digest = hashlib.sha256()
    with source.path.open("rb") as file:
        for piece in _pieces(file, None):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != source.sha256:
        raise IntegrityError(f"{source.path} was changed while it was packed", hint="run again")


# --- reading ----------------------------------------------------------------------------------------------------------


def open_bundle(path: Path) -> Bundle:
    """Check a bundle from its first byte to its last and return what it holds.

    Raises ``BundleError`` when the file is not a bundle of a format that this version reads, ``IntegrityError`` naming
    the member when contents do not match the manifest. Memory does not grow with the file.
    """
    with open_checked(path) as (_file, bundle):
        return bundle


@contextmanager
def open_checked(path: Path) -> Iterator[tuple[IO[bytes], Bundle]]:
    """Open a bundle, check it as ``open_bundle`` does, and give the open file with it, so that nobody can swap it."""
    with _open(path) as file:
        mark = _mark(file)
        size = mark[0]
        with _reading(path):
            try:
                layout = read_layout(file, size)
            except LayoutError as error:
                if path.suffix == ".onnx":
                    raise BundleError(
                        f"{path} is named as an ONNX model is, and is not a bundle",
                        hint="look at it with 'edgepack inspect', make a bundle with 'edgepack build'",
                    ) from None
                raise BundleError(f"{path} {error}", hint=_layout_hint(str(error))) from None
            members = {member.name: member for member in layout.members}
            text = _read_whole(file, members[MANIFEST], path, MANIFEST_LIMIT_BYTES)
            manifest = read_manifest(text, str(path))
            _compare_listing(members, manifest, path)
            for entry in manifest.files:
                _check(file, members[entry.path], entry.sha256, path)
            signature = None
            if SIGNATURE in members:
                signature = _read_whole(file, members[SIGNATURE], path, SIGNATURE_LIMIT_BYTES)
        yield file, Bundle(path, size, manifest, hashlib.sha256(text).hexdigest(), members, mark, signature)


def read_member(bundle: Bundle, name: str) -> bytes:
    """Return a member's bytes, compared once more with the manifest. Raises ``IntegrityError``."""
    wanted = bundle.manifest_sha256 if name == MANIFEST else file_entry(bundle, name).sha256
    member = bundle.members[name]
    with _open(bundle.path) as file, _reading(bundle.path):
        file.seek(member.offset)
        data = file.read(member.size_bytes)
    if hashlib.sha256(data).hexdigest() != wanted:
        raise _changed(bundle.path, name)
    return data


def copy_member(bundle: Bundle, name: str, file: IO[bytes], out: IO[bytes]) -> None:
    """Copy a member from the bundle's open ``file`` to ``out``, compared with the manifest on the way."""
    member, digest = bundle.members[name], hashlib.sha256()
    file.seek(member.offset)
    for piece in _pieces(file, member.size_bytes):
        digest.update(piece)
        out.write(piece)
    if digest.hexdigest() != file_entry(bundle, name).sha256:
        raise _changed(bundle.path, name)


def file_entry(bundle: Bundle, name: str) -> FileEntry:
    """Return what the manifest says of a member. Raises ``BundleError`` when it is not listed."""
    for entry in bundle.manifest.files:
        if entry.path == name:
            return entry
    raise BundleError(f"{bundle.path} has no {name!r}")


def _open(path: Path) -> IO[bytes]:
    """Open a regular file. A pipe or device is refused before opening, which could block."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BundleError(
                f"{path} is a folder, not a bundle", hint=f"give a file in it, such as {path}/NAME.edgepack"
            )
        if not stat.S_ISREG(mode):
            raise BundleError(f"{path} is not a regular file")
        return path.open("rb")
    except FileNotFoundError:
        raise BundleError(f"there is no file {path}", hint="check the path; builds write to artifacts/") from None
    except PermissionError:
        raise StorageError(f"{path} is not readable", hint="change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise BundleError(f"{path} cannot be opened: {error}") from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}", hint="copy it again, or use another disk"
        ) from error
    except MemoryError:
        raise EdgepackError(f"not enough memory to open {path}", hint="free some memory") from None


def _mark(file: IO[bytes]) -> tuple[int, ...]:
    """Return what is another when a file was written or replaced: no program can set the last time."""
    status = os.fstat(file.fileno())
    return (status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def _layout_hint(problem: str) -> str:
    if "not a zip" in problem:
        return BundleError.default_hint
    return "the file was not copied whole: copy it again" if "cut off" in problem or "empty" in problem else _REPACKED


def _read_whole(file: IO[bytes], member: Member, path: Path, limit: int) -> bytes:
    """Return a small member's bytes, checked by its checksum."""
    if member.size_bytes > limit:
        raise BundleError(f"{path}: {member.name} has {member.size_bytes} bytes; at most {limit} are read")
    file.seek(member.offset)
    data = file.read(member.size_bytes)
    if zlib.crc32(data) != member.crc32:
        raise _changed(path, member.name)
    return data


def _compare_listing(members: Mapping[str, Member], manifest: Manifest, path: Path) -> None:
    listed = {entry.path: entry.size_bytes for entry in manifest.files}
    present = {name: member.size_bytes for name, member in members.items() if name not in (MANIFEST, SIGNATURE)}
    if extra := sorted(set(present) - set(listed)):
        raise IntegrityError(f"{path} holds {extra[0]!r}, which its manifest does not list")
    if missing := sorted(set(listed) - set(present)):
        raise IntegrityError(f"{path} lacks {missing[0]!r}, which its manifest lists")
    for name, size in sorted(listed.items()):
        if present[name] != size:
            raise IntegrityError(f"{path}: {name!r} has {present[name]} bytes, its manifest says {size}")


def _check(file: IO[bytes], member: Member, wanted: str, path: Path) -> None:
    digest = hashlib.sha256()
    file.seek(member.offset)
    for piece in _pieces(file, member.size_bytes):
        digest.update(piece)
    if digest.hexdigest() != wanted:
        raise _changed(path, member.name)


def _changed(path: Path, name: str) -> IntegrityError:
    return IntegrityError(f"{path}: the contents of {name!r} do not match the manifest")


def _pieces(file: IO[bytes], size: int | None) -> Iterator[memoryview]:
    """Yield up to ``size`` bytes (None: to the end) in pieces that share one buffer."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    left = size
    while left is None or left > 0:
        count = file.readinto(buffer if left is None else buffer[: min(left, _CHUNK_BYTES)])  # type: ignore[attr-defined]
        if not count:
            return
        yield buffer[:count]
        left = None if left is None else left - count
