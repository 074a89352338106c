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
from typing import IO, TYPE_CHECKING, Generic, Protocol, TypeVar

from edgepack.base.files import atomic_write
from edgepack.base.missing import nothing_at
from edgepack.bundle.layout import MANIFEST, SIGNATURE, LayoutError, Member, in_order, lay_out, read_layout
from edgepack.bundle.manifest import MANIFEST_LIMIT_BYTES, read_manifest
from edgepack.errors import BundleError, EdgepackError, IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
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


class Listing(Protocol):
    """The first member of an archive, which lists the others."""

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All other members."""


L = TypeVar("L", bound=Listing)


@dataclass(frozen=True)
class Archive(Generic[L]):
    """An archive whose every byte was checked: its list, the digest of that member's bytes, and the members.

    ``mark`` is another when the file was written or replaced; it begins with the file's size.
    """

    listing: L
    sha256: str
    members: Mapping[str, Member]
    mark: tuple[int, ...]


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


def write_archive(out: Path, manifest: bytes, sources: Mapping[str, Source], first: str = MANIFEST) -> None:
    """Write a bundle, whole or not at all; the same manifest and files give the same bytes.

    ``first`` is the name of the manifest, another one for an archive that is not a bundle. Memory does not grow with
    the members. Raises ``IntegrityError`` when a file changed since it was measured and ``StorageError`` when the disk
    is full.
    """
    members = [
        Member(first, len(manifest), zlib.crc32(manifest))
        if name == first
        else Member(name, sources[name].size_bytes, sources[name].crc32)
        for name in in_order([first, *sources], first)
    ]
    layout = lay_out(members)
    with atomic_write(out) as file:
        for member, header in zip(layout.members, layout.headers, strict=True):
            file.write(header)
            if member.name == first:
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
    with open_archive(path, MANIFEST, read_manifest, (SIGNATURE,)) as (file, found):
        signature = None
        if SIGNATURE in found.members:
            with _reading(path):
                signature = _read_whole(file, found.members[SIGNATURE], path, SIGNATURE_LIMIT_BYTES)
        yield file, Bundle(path, found.mark[0], found.listing, found.sha256, found.members, found.mark, signature)


@contextmanager
def open_archive(
    path: Path, first: str, read: Callable[[bytes, str], L], unlisted: tuple[str, ...] = ()
) -> Iterator[tuple[IO[bytes], Archive[L]]]:
    """Open an archive in the layout of a bundle, check all of it, and give the open file with what it holds.

    The member ``first`` lists all others but those ``unlisted``; ``read`` returns the list from its bytes and the
    archive's name. What is raised is as ``open_bundle`` says.
    """
    with _open(path) as file:
        mark = _mark(file)
        with _reading(path):
            try:
                layout = read_layout(file, mark[0], first)
            except LayoutError as error:
                raise _no_archive(path, error) from None
            members = {member.name: member for member in layout.members}
            text = _read_whole(file, members[first], path, MANIFEST_LIMIT_BYTES)
            listing = read(text, str(path))
            _compare_listing(members, listing.files, path, (first, *unlisted))
            for entry in listing.files:
                _check(file, members[entry.path], entry.sha256, path)
        yield file, Archive(listing, hashlib.sha256(text).hexdigest(), members, mark)


def _no_archive(path: Path, error: LayoutError) -> BundleError:
    if path.suffix == ".onnx":
        return BundleError(
            f"{path} is named like an ONNX model and is not a bundle",
            hint="look at it with 'edgepack inspect', make a bundle with 'edgepack build'",
        )
    return BundleError(f"{path} {error}", hint=_layout_hint(str(error)))


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
    copy_entry(bundle.members[name], file_entry(bundle, name), file, out, bundle.path)


def copy_entry(member: Member, entry: FileEntry, file: IO[bytes], out: IO[bytes], path: Path) -> None:
    """Copy a member of an archive's open ``file`` to ``out``, compared with its entry on the way."""
    digest = hashlib.sha256()
    file.seek(member.offset)
    for piece in _pieces(file, member.size_bytes):
        digest.update(piece)
        out.write(piece)
    if digest.hexdigest() != entry.sha256:
        raise _changed(path, member.name)


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
        message, hint = nothing_at(path, "check the path; builds write to artifacts/", suffixes=(".edgepack",))
        raise BundleError(message, hint=hint) from None
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
    if "calibration job" in problem:
        return "measure it with 'edgepack calibrate', or give a .edgepack file"
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


def _compare_listing(
    members: Mapping[str, Member], files: Iterable[FileEntry], path: Path, unlisted: tuple[str, ...]
) -> None:
    listed = {entry.path: entry.size_bytes for entry in files}
    present = {name: member.size_bytes for name, member in members.items() if name not in unlisted}
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
