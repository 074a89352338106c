"""A .npz file as samples, read row by row: stored members where a row lies, compressed ones as a stream."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgepack.base.files import open_regular
from edgepack.base.shapes import show_shape
from edgepack.data.checks import check_dtype, check_names, check_shape, check_values, to_input
from edgepack.data.labels import with_classes
from edgepack.data.npy import read_header
from edgepack.data.source import LABELS, Asked, Contents, Item, Source, place
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array

_CHUNK_BYTES = 1 << 20
# Compressed arrays are decompressed row by row; what must be held whole, or is one row, may not be larger than this.
MOST_EXPANDED_BYTES = 256 << 20
_MOST_SAMPLES = 10_000_000
_LOCAL_HEADER = struct.Struct("<26xHH")  # APPNOTE.TXT 4.3.7: the lengths of name and extra field end the 30 bytes
# What zipfile raises for an archive that is none: cut off, encrypted, with names that are no text or sizes that lie.
_DAMAGED = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
    UnicodeDecodeError, struct.error,
)  # fmt: skip
_MISNAMED_LABELS = ("label", "y", "target", "targets", "Labels")


@dataclass(frozen=True)
class Member:
    """One array of a .npz. ``header_bytes`` is the length of its .npy header, ``compressed`` how it lies in the zip."""

    name: str
    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    header_bytes: int

    @property
    def compressed(self) -> bool:
        """Whether the member must be decompressed, so that it cannot be mapped."""
        return self.info.compress_type != zipfile.ZIP_STORED

    @property
    def row_bytes(self) -> int:
        """The bytes of one sample."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


def scan(
    path: Path, inputs: tuple[TensorSpec, ...] | None, labels: str | None, digest: Callable[[Path], str]
) -> Contents:
    """Return the contents of a .npz; with ``inputs`` every member is read once (its checksum) and checked for them."""
    with _open(path) as archive:
        members, ignored = _members(path, archive)
        count = next(iter(members.values())).shape[0]
        if inputs is not None:
            _check_members(path, members, inputs, labels)
            for member in members.values():
                _check_sum(archive, member)
    named = {spec.name for spec in inputs or ()} | {LABELS}
    extra = tuple(f"{name}.npy" for name in members if inputs is not None and name not in named)
    found = members.get(labels) if labels else None
    values = None if found is None else _read_labels(path, found)
    of_file = digest(path)
    return Contents(count, lambda index: f"{of_file}:{index}", values, (), (*ignored, *extra))


def read(path: Path, inputs: tuple[TensorSpec, ...], labels: str | None, indices: Sequence[int]) -> Iterator[Item]:
    """Yield the rows ``indices`` as feeds. Raises ``DataError`` naming the row."""
    with ExitStack() as stack:
        archive = stack.enter_context(_open(path))
        members, _ = _members(path, archive)
        _check_members(path, members, inputs, labels)
        rows = {spec.name: _rows(path, archive, members[spec.name]) for spec in inputs}
        for index in indices:
            if index >= members[inputs[0].name].shape[0]:
                raise DataError(f"{path} has fewer samples than before", hint="do not change the data during a run")
            feed = {}
            for spec in inputs:
                row = rows[spec.name](index)
                array = row if len(members[spec.name].shape) > len(spec.shape) else row[None]
                check_values(array, spec.name, place(index, str(path)))
                feed[spec.name] = to_input(array, spec)
            yield Item(feed)


def read_arrays(path: Path, names: Sequence[str]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return those of the arrays ``names`` that are there, whole, and the names of all. Raises ``DataError``."""
    with _open(path) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        found = {name: _whole(path, archive, _member(path, archive, infos[name])) for name in names if name in infos}
    return found, tuple(infos)


def _whole(path: Path, archive: zipfile.ZipFile, member: Member) -> Array:
    """Return an array that must be held whole: one that was compressed may not be larger than the limit."""
    if member.compressed and member.info.file_size > MOST_EXPANDED_BYTES:
        raise _too_large(path, member, member.info.file_size)
    with archive.open(member.info) as file:
        array: Array = np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False)
    return array


def _too_large(path: Path, member: Member, size: int) -> DataError:
    return DataError(
        f"{path}: {member.name!r} is compressed and takes {size} bytes at once, more than {MOST_EXPANDED_BYTES}",
        hint="save it in C order (np.ascontiguousarray) with np.savez, which does not compress",
    )


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            _refuse_twice(path, archive)
            yield archive
    except _DAMAGED as error:
        raise DataError(
            f"{path} is not a complete .npz file: {error}", hint="save it again with np.savez, or copy it again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error


def _refuse_twice(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ``DataError`` for two members of one name, with or without its suffix: numpy reads another than we do."""
    seen: set[str] = set()
    for name in (name.removesuffix(".npy") for name in archive.namelist()):
        if name in seen:
            raise DataError(f"{path} holds {name!r} twice", hint="save it again with np.savez")
        seen.add(name)


def _members(path: Path, archive: zipfile.ZipFile) -> tuple[dict[str, Member], tuple[str, ...]]:
    """Return the arrays by name and the names of other members; all arrays have the same first axis."""
    members: dict[str, Member] = {}
    ignored = []
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            ignored.append(info.filename)
            continue
        member = _member(path, archive, info)
        members[member.name] = member
    if not members:
        raise DataError(f"{path} contains no arrays", hint="save the samples with np.savez(file, input_name=array)")
    first = next(iter(members.values()))
    if first.shape and first.shape[0] > _MOST_SAMPLES:
        raise DataError(f"{path} has {first.shape[0]} samples", hint=f"give at most {_MOST_SAMPLES} at once")
    for member in members.values():
        if not member.shape or member.shape[0] != first.shape[0]:
            raise DataError(
                f"{path}: {member.name!r} has shape {show_shape(member.shape)}, {first.name!r} has "
                f"{show_shape(first.shape)}",
                hint="the first axis counts the samples and must be equally long in every array",
            )
    if first.shape[0] == 0:
        raise DataError(
            f"{path} contains no samples: {first.name!r} has shape {show_shape(first.shape)}", hint="save some samples"
        )
    return members, tuple(ignored)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        try:
            _, shape, fortran, dtype = read_header(file)
        except ValueError as error:
            raise DataError(
                f"{path}: {name!r} is not a numpy array: {str(error)[:200]}", hint="save it again with np.savez"
            ) from error
        header_bytes = file.tell()
    if dtype.hasobject or dtype.kind not in "biuf":
        raise DataError(
            f"{path}: {name!r} holds {'Python objects' if dtype.hasobject else dtype}, not numbers",
            hint="save arrays of numbers; lists of different lengths become objects in numpy",
        )
    if dtype.itemsize * math.prod(shape) != info.file_size - header_bytes:
        raise DataError(f"{path}: {name!r} is not as long as its header says", hint="save it again with np.savez")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise DataError(f"{path}: {name!r} has two sizes", hint="save it again with np.savez")
    member = Member(name, info, dtype, shape, fortran, header_bytes)
    if member.compressed and member.row_bytes > MOST_EXPANDED_BYTES:
        raise _too_large(path, member, member.row_bytes)
    return member


def _check_members(path: Path, members: dict[str, Member], inputs: tuple[TensorSpec, ...], labels: str | None) -> None:
    check_names(members, inputs, str(path))
    for spec in inputs:
        member = members[spec.name]
        check_dtype(member.dtype, spec, str(path))
        per_sample = len(member.shape) == len(spec.shape) + 1
        shape = member.shape[1:] if per_sample else (1, *member.shape[1:])
        where = f"a sample of {path} (its array {spec.name!r} has shape {show_shape(member.shape)})"
        check_shape(shape, spec, where)
    used = {spec.name for spec in inputs}
    for name in _MISNAMED_LABELS:
        if labels is not None and name in members and name not in used and LABELS not in members:
            raise DataError(
                f"{path} has an array named {name!r} but none named 'labels'", hint=f"rename {name!r} to 'labels'"
            )


def _check_sum(archive: zipfile.ZipFile, member: Member) -> None:
    """Read a member to its end, where zipfile compares its CRC-32."""
    with archive.open(member.info) as file:
        while file.read(_CHUNK_BYTES):
            pass


def _rows(path: Path, archive: zipfile.ZipFile, member: Member) -> Callable[[int], Array]:
    """Return a function that gives row i of a member."""
    if member.fortran and len(member.shape) > 1:  # its rows do not lie one after the other
        whole = _whole(path, archive, member)
        return lambda index: np.asarray(whole[index])
    return _Stream(archive, member).row if member.compressed else _Stored(path, member).row


class _Stored:
    """The rows of a member that lies in the file as it is. Not mapped: mapped pages count as memory of the process."""

    def __init__(self, path: Path, member: Member) -> None:
        self._path = path
        self._member = member
        info = member.info
        with path.open("rb") as file:
            file.seek(info.header_offset)
            name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        local_bytes = _LOCAL_HEADER.size + name_bytes + extra_bytes
        self._start = info.header_offset + local_bytes + member.header_bytes

    def row(self, index: int) -> Array:
        """Return row ``index``."""
        data = bytearray(self._member.row_bytes)
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._start + index * len(data))
            if file.readinto(data) != len(data):
                raise DataError(f"{self._path} is cut short", hint="copy it again")
        return np.frombuffer(data, self._member.dtype).reshape(self._member.shape[1:])


class _Stream:
    """The rows of a compressed member, decompressed in order; going back starts again at its beginning."""

    def __init__(self, archive: zipfile.ZipFile, member: Member) -> None:
        self._archive = archive
        self._member = member
        self._file: IO[bytes] | None = None
        self._next = 0

    def row(self, index: int) -> Array:
        """Return row ``index``."""
        if self._file is None or index < self._next:
            self._file = self._archive.open(self._member.info)
            self._file.read(self._member.header_bytes)
            self._next = 0
        self._skip((index - self._next) * self._member.row_bytes)
        data = self._file.read(self._member.row_bytes)
        self._next = index + 1
        return np.frombuffer(data, self._member.dtype).reshape(self._member.shape[1:])

    def _skip(self, count: int) -> None:
        while count > 0 and self._file is not None:
            count -= len(self._file.read(min(count, _CHUNK_BYTES)))


def _read_labels(path: Path, member: Member) -> Array:
    with _open(path) as archive:
        labels = _whole(path, archive, member)
    check_values(labels, member.name, str(path))
    return with_classes(labels)


def _recognises(data: str, _task: object) -> bool:
    return "\0" not in data and Path(data).suffix.lower() == ".npz" and Path(data).is_file()


def _scan_asked(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    return scan(Path(asked.source), inputs, asked.labels, digest)


def _read_asked(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    return read(Path(asked.source), inputs, asked.labels, indices)


SOURCE = Source(_recognises, _scan_asked, _read_asked)
