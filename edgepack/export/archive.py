"""A model's source in a .zip or .tar file: unpacked within limits, and the one model in it found."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from edgepack.base.stage import stage
from edgepack.data.zip_file import DAMAGED, UNPACK, check_name, unpack_zip
from edgepack.errors import DataError, ModelError
from edgepack.export import ARCHIVES, find_framework
from edgepack.export.kinds import kind_of
from edgepack.specs.types import UserSource

_MOST_BYTES = 64 << 30
_MOST_FILES = 100_000
_MOST_RATIO = 200  # of unpacked to packed bytes, beyond the first megabytes
_SMALL_BYTES = 64 << 20
_MOST_HEADER = 1 << 20
_SHOWN = 5


def archive_suffix(source: str) -> str | None:
    """Return the suffix of an archive of a model; None for what is none, such as the formats that are zip files."""
    suffix = next((s for s in ARCHIVES if source.lower().endswith(s)), None)
    return suffix if suffix and Path(source).is_file() and kind_of(source) is None else None


@stage("unpack")
def unpack_source(source: UserSource, out: Path) -> Path:
    """Unpack an archive into ``out`` and return the model in it: a folder that a framework takes, or the one file.

    Raises ``ModelError`` for an archive that is damaged, that would write elsewhere or grow beyond the limits, or that
    holds none or several models.
    """
    path, place = Path(source), out / "source"
    out.mkdir(parents=True, exist_ok=True)
    try:
        if source.lower().endswith(".zip"):
            unpack_zip(path, place)
        else:
            _unpack_tar(path, place)
    except DataError as error:
        named = error.message if source in error.message else f"{source}: {error.message}"
        raise ModelError(named, hint=error.hint) from error
    except (*DAMAGED, tarfile.TarError) as error:
        raise ModelError(
            f"{source} cannot be unpacked: {error}", hint="copy it again, or unpack it yourself"
        ) from error
    return _model_in(place, source)


class _Member(tarfile.TarInfo):
    """A member whose long name or attributes are of a size that one has: tarfile reads them into memory whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return a member read from its header. Raises ``DataError``."""
        found = super().frombuf(buf, encoding, errors)
        if not (found.isreg() or found.isdir()) and found.size > _MOST_HEADER:
            raise DataError(f"it holds an entry of {found.size} bytes that is not a file", hint=UNPACK)
        return found


def _unpack_tar(path: Path, place: Path) -> None:
    place.mkdir(parents=True)
    packed = path.stat().st_size
    total = 0
    with tarfile.open(path, "r:*", tarinfo=_Member) as archive:
        for number, member in enumerate(archive):
            total += member.size
            _check(path, member, number, total, packed)
            target = place / member.name
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None, "it is a file"
            with source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _check(path: Path, member: tarfile.TarInfo, number: int, total: int, packed: int) -> None:
    """Refuse what would write elsewhere, or more than anybody expects, before it is written."""
    if not (member.isdir() and member.name in ("", ".")):  # the folder itself, as "tar -C folder ." writes it
        check_name(path, member.name)
    if not (member.isreg() or member.isdir()):
        raise DataError(f"{path}: {member.name[:80]!r} is a link or not a regular file", hint="pack the file itself")
    if number >= _MOST_FILES or total > _MOST_BYTES:
        raise DataError(f"{path} holds more files or bytes than are unpacked", hint=UNPACK)
    if total > _SMALL_BYTES and total > _MOST_RATIO * packed:
        raise DataError(f"{path} grows to over {_MOST_RATIO} times its size when it is unpacked", hint=UNPACK)


def _model_in(place: Path, source: str) -> Path:
    while find_framework(str(place)) is None:
        entries = [entry for entry in place.iterdir() if not entry.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            break
        place = entries[0]
    if find_framework(str(place)) is not None:
        return place
    found = sorted(_models(place))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"{source} holds no model", hint="pack a file or a folder that edgepack reads")
    names = ", ".join(str(one.relative_to(place)) for one in found[:_SHOWN])
    raise ModelError(f"{source} holds {len(found)} models: {names}", hint="unpack it, and give one of them")


def _models(place: Path) -> Iterator[Path]:
    """Yield what frameworks take, folders whole."""
    for entry in place.iterdir():
        if not entry.name.startswith(".") and find_framework(str(entry)) is not None:
            yield entry
        elif entry.is_dir():
            yield from _models(entry)
