"""A zip file as samples: it is unpacked once, within limits, and what is in it is read as any other source."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder, sha256_file
from edgepack.data.source import Asked, Contents, Item, Source
from edgepack.errors import DataError

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Task

try:
    from lzma import LZMAError
except ImportError:  # Python may be built without it, and reads no such files then
    LZMAError = EOFError  # type: ignore[assignment, misc]

# What reading a damaged archive raises: zlib's and lzma's own errors have no common base.
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError)
MOST_BYTES = 64 << 30
MOST_FILES = 2_000_000
MOST_RATIO = 200  # of unpacked to packed bytes; labels as text come to 20
_SMALL_BYTES = 64 << 20  # what may be packed better than that
_IGNORED = ("__MACOSX",)
_MOST_DEEP = 100
_COPY, UNPACK = "copy it again, or unpack it yourself", "unpack it yourself, and look at what is in it"


def unpacked(path: Path, digest: Callable[[Path], str] = sha256_file) -> Path:
    """Return the folder with what a zip file holds, unpacked the first time. Raises ``DataError``.

    A name that leads out of the folder, a link, or more than the limits is refused before anything is written.
    """
    try:
        place = _cache() / digest(path)
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder("edgepack-zip-", place.parent) as scratch:
                unpack_zip(path, Path(scratch) / "data")
                (Path(scratch) / "data").rename(place)
    except DAMAGED as error:
        raise DataError(f"{path} cannot be unpacked: {error}", hint=_COPY) from error
    inner = _only_folder(place) or place
    while (deeper := _only_folder(inner)) is not None and any(entry.is_dir() for entry in deeper.iterdir()):
        inner = deeper  # VOCdevkit/VOC2012; but one folder of files alone may be a class
    return inner


def _only_folder(place: Path) -> Path | None:
    """Return the folder that is all there is in another one."""
    entries = [entry for entry in place.iterdir() if not entry.name.startswith(".")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def _cache() -> Path:
    """Return the folder that zip files are unpacked in: ``unpacked`` beside the store of stages."""
    from edgepack.execution.store import default_folder

    return default_folder().parent / "unpacked"


def unpack_zip(path: Path, place: Path) -> None:
    """Write what a zip file holds into a new folder. Raises ``DataError`` for what is refused, as ``unpacked``."""
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith(_IGNORED)]
        _check(path, members)
        for info in members:
            target = place / info.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                if file.tell() != info.file_size:
                    raise DataError(f"{path}: {info.filename[:80]!r} is not as large as it says", hint=_COPY)
    place.mkdir(exist_ok=True)


def _check(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse what would write elsewhere, or more than anybody expects. Raises ``DataError``."""
    total = sum(info.file_size for info in members)
    if len(members) > MOST_FILES or total > MOST_BYTES:
        raise DataError(f"{path} holds {len(members)} files of {total} bytes, more than edgepack unpacks", hint=UNPACK)
    if total > _SMALL_BYTES and total > MOST_RATIO * path.stat().st_size:
        times = total // max(path.stat().st_size, 1)
        raise DataError(f"{path} grows to {times} times its size when it is unpacked", hint=UNPACK)
    for info in members:
        check_name(path, info.filename)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise DataError(
                f"{path}: {info.filename[:80]!r} is a link or not a regular file", hint="pack the file itself"
            )
        if info.flag_bits & 1:
            raise DataError(f"{path} is encrypted", hint=UNPACK)


def check_name(path: Path, name: str) -> None:
    """Raise ``DataError`` for a file's name in the archive ``path`` that no program should write."""
    parts = PurePosixPath(name).parts
    if "\\" in name:  # a folder on Windows, a letter elsewhere
        raise DataError(
            f"{path}: the name {name[:80]!r} has a backslash, and folders are parted by slashes",
            hint=UNPACK,
        )
    outside = name.startswith("/") or ".." in parts or "\0" in name
    if outside or not parts or ":" in parts[0]:
        raise DataError(
            f"{path}: the name {name[:80]!r} leads outside the folder", hint="pack it from within its folder"
        )
    if len(parts) > _MOST_DEEP:  # what walks and removes folders would end in errors of its own
        raise DataError(f"{path} has folders {len(parts)} deep: {name[:40]!r}...", hint="pack it without empty levels")


def _recognises(data: str, _task: object) -> bool:
    if "\0" in data or Path(data).suffix.lower() == ".npz" or not os.path.isfile(data):  # noqa: PTH113
        return False
    return zipfile.is_zipfile(data) and Path(data).suffix.lower() == ".zip"


def _inner(asked: Asked, task: Task | None, digest: Callable[[Path], str] = sha256_file) -> tuple[Source, Asked]:
    """Return the source of what is in the zip file, and what is asked of it."""
    from edgepack.data.samples import SOURCES, kind_of

    folder = unpacked(Path(asked.source), digest)
    return SOURCES.get(kind_of(str(folder), task)), replace(asked, source=str(folder), within=folder)


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    source, inside = _inner(asked, asked.task, digest)
    return source.scan(inside, inputs, digest)


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    source, inside = _inner(asked, asked.task)
    yield from source.read(inside, inputs, indices)


def _picture(asked: Asked, index: int) -> tuple[bytes, str]:
    source, inside = _inner(asked, asked.task)
    if source.picture is None:
        raise DataError(f"{asked.source} holds no pictures")
    return source.picture(inside, index)


def _within(data: str, task: Task | None) -> Source:
    return _inner(Asked(data), task)[0]


SOURCE = Source(_recognises, _scan, _read, pictures=True, picture=_picture, within=_within)
