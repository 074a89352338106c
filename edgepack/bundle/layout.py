"""The zip structures of a bundle: which bytes stand where, as a pure function of names, sizes and checksums.

``zipfile`` writes and reads many layouts; a bundle has exactly one. The reader takes names, sizes and checksums from
the central directory, makes every structural byte again, and compares: what an archive could hide (a second directory,
data before or after, local headers that disagree, overlapping or compressed members) then cannot be there.
Source of the structures: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5; of the alignment field: Android's apksig.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST = "manifest.json"
JOB = "job.json"  # what stands first in a calibration job
SIGNATURE = "signature.dsse.json"
ALIGNMENT_BYTES = 16384  # the largest page size in use (Apple and some ARM kernels), so that every host can map members
MEMBER_LIMIT = 4096
DIRECTORY_LIMIT_BYTES = 1 << 20

_KINDS = {MANIFEST: "a bundle", JOB: "a calibration job"}
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")

_ALIGNMENT_FIELD = 0xD935
_ZIP64_FIELD = 0x0001
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_VERSION, _VERSION64, _UNIX = 20, 45, 3 << 8
_TIME, _DATE = 0, (1 << 5) | 1  # 1980-01-01 00:00:00, the earliest that a zip can hold
_REGULAR_FILE = 0o100644 << 16

_PART = re.compile(r"[A-Za-z0-9_+@=-][A-Za-z0-9_.+@=-]*")
_NAME_LIMIT = 255


@dataclass(frozen=True)
class Member:
    """One stored file of a bundle: ``offset`` is where its data starts, a multiple of 16 KiB."""

    name: str
    size_bytes: int
    crc32: int
    offset: int = 0


@dataclass(frozen=True)
class Layout:
    """All structural bytes: ``headers[i]`` stands at ``header_offsets[i]`` and ends where member i's data starts."""

    members: tuple[Member, ...]
    headers: tuple[bytes, ...]
    header_offsets: tuple[int, ...]
    tail: bytes
    tail_offset: int

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole file."""
        return self.tail_offset + len(self.tail)


def lay_out(members: Iterable[Member]) -> Layout:
    """Return the only layout of these members, in their order; ``offset`` of what comes in is not looked at."""
    placed, headers, offsets, directory = [], [], [], []
    position = 0
    for member in members:
        header = _local_header(member, position)
        placed.append(Member(member.name, member.size_bytes, member.crc32, position + len(header)))
        headers.append(header)
        offsets.append(position)
        directory.append(_central_entry(member, position))
        position += len(header) + member.size_bytes
    listing = b"".join(directory)
    tail = listing + _end_records(len(directory), len(listing), position)
    return Layout(tuple(placed), tuple(headers), tuple(offsets), tail, position)


def in_order(names: Iterable[str], first: str = MANIFEST) -> list[str]:
    """Return member names in the order they stand in: ``first``, then the others sorted."""
    return sorted(names, key=lambda name: (name != first, name))


def name_problem(name: str) -> str | None:
    """Return why ``name`` may not be a member's name, or None: relative ASCII paths, no ``.``, ``..``, backslash."""
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "is an absolute path"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of the bundle"
    if len(name) > _NAME_LIMIT:
        return f"is longer than {_NAME_LIMIT} characters"
    if not all(_PART.fullmatch(part) for part in parts):
        return "holds characters other than A-Z a-z 0-9 _ + @ = - . or a part that is empty or starts with a dot"
    return None


def names_problem(names: Iterable[str]) -> str | None:
    """Return why these names may not stand together: twice, apart only in case, or one as the folder of another."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        key = name.casefold()
        if key in seen:
            return (
                f"{name!r} is listed twice" if seen[key] == name else f"{seen[key]!r} and {name!r} differ only in case"
            )
        seen[key] = name
        parts = key.split("/")
        folders.update({"/".join(parts[:i]): name for i in range(1, len(parts))})
    clash = sorted(set(seen) & set(folders))
    return f"{seen[clash[0]]!r} is a file and the folder of {folders[clash[0]]!r}" if clash else None


def _local_header(member: Member, position: int) -> bytes:
    name = member.name.encode("ascii")
    large = member.size_bytes >= _MAX32
    wide = struct.pack("<2H2Q", _ZIP64_FIELD, 16, member.size_bytes, member.size_bytes) if large else b""
    before = position + _LOCAL.size + len(name) + len(wide) + 6
    padding = -before % ALIGNMENT_BYTES
    extra = wide + struct.pack("<3H", _ALIGNMENT_FIELD, 2 + padding, ALIGNMENT_BYTES) + bytes(padding)
    size = _MAX32 if large else member.size_bytes
    version = _VERSION64 if large else _VERSION
    fixed = (b"PK\3\4", version, 0, 0, _TIME, _DATE, member.crc32, size, size, len(name), len(extra))
    return _LOCAL.pack(*fixed) + name + extra


def _central_entry(member: Member, position: int) -> bytes:
    name = member.name.encode("ascii")
    large, far = member.size_bytes >= _MAX32, position >= _MAX32
    wide = [member.size_bytes] * 2 * large + [position] * far
    extra = struct.pack(f"<2H{len(wide)}Q", _ZIP64_FIELD, 8 * len(wide), *wide) if wide else b""
    size = _MAX32 if large else member.size_bytes
    version = _VERSION64 if wide else _VERSION
    fixed = (b"PK\1\2", _UNIX | version, version, 0, 0, _TIME, _DATE, member.crc32, size, size, len(name), len(extra))
    return _CENTRAL.pack(*fixed, 0, 0, 0, _REGULAR_FILE, _MAX32 if far else position) + name + extra


def _end_records(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if offset >= _MAX32:
        version = _UNIX | _VERSION64
        wide = _END64.pack(b"PK\6\6", _END64.size - 12, version, _VERSION64, 0, 0, count, count, size, offset)
        wide += _LOCATOR64.pack(b"PK\6\7", 0, offset + size, 1)
    return wide + _END.pack(b"PK\5\6", 0, 0, count, count, size, min(offset, _MAX32), 0)


# --- reading ----------------------------------------------------------------------------------------------------------


class LayoutError(Exception):
    """The file is not laid out as a bundle; the text completes "FILE ..."."""


@dataclass(frozen=True)
class _Entry:
    """What a central directory says of one member, before any of it is believed."""

    name: str
    version: int
    flags: int
    method: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    mode: int
    offset: int


def read_layout(file: IO[bytes], size: int, first: str = MANIFEST) -> Layout:
    """Return the layout of an open file of ``size`` bytes, every structural byte of it compared.

    ``first`` is the member that must be the first one. Members' data is not read. Raises ``LayoutError`` saying what is
    wrong.
    """
    start = _at(file, 0, 4)
    count, directory_size, directory_offset, end_offset = _read_end(file, size, start)
    if count > MEMBER_LIMIT or directory_size > DIRECTORY_LIMIT_BYTES:
        raise LayoutError(f"lists more than the {MEMBER_LIMIT} members that a bundle may have")
    if directory_offset + directory_size > end_offset:
        raise LayoutError("is cut off or damaged: its directory does not fit into it")
    if directory_offset + directory_size < end_offset:
        raise LayoutError("has data before the archive or between its parts")
    entries = list(_entries(_at(file, directory_offset, directory_size), count))
    _refuse_foreign(entries, first)
    if sum(entry.size_bytes for entry in entries) > size:
        raise LayoutError("is cut off or damaged: its members do not fit into it")
    layout = lay_out(Member(e.name, e.size_bytes, e.crc32) for e in entries)
    _compare(file, size, layout, entries)
    return layout


def _read_end(file: IO[bytes], size: int, start: bytes) -> tuple[int, int, int, int]:
    """Return number of members, directory size and offset, and where the end records start."""
    if size == 0:
        raise LayoutError("is empty")
    end = _at(file, size - _END.size, _END.size) if size >= _END.size else b""
    if not end.startswith(b"PK\5\6"):
        found = b"PK\5\6" in _at(file, max(0, size - 0x10000 - _END.size), min(size, 0x10000 + _END.size))
        if found:
            raise LayoutError("has data after the archive, or is damaged at its end")
        raise LayoutError("is cut off" if start == b"PK\3\4" else "is not a zip archive")
    if start != b"PK\3\4":
        raise LayoutError("has data before the archive, or is damaged at its start")
    _, _, _, _, count, directory_size, offset, comment = _END.unpack(end)
    if comment:
        raise LayoutError("has a comment, or is damaged at its end")
    if offset != _MAX32:
        return count, directory_size, offset, size - _END.size
    place = size - _END.size - _LOCATOR64.size - _END64.size
    wide = _at(file, place, _END64.size) if place >= 0 else b""
    if not wide.startswith(b"PK\6\6"):
        raise LayoutError("is damaged at its end")
    fields = _END64.unpack(wide)
    return fields[7], fields[8], fields[9], place


def _entries(listing: bytes, count: int) -> Iterator[_Entry]:
    position = 0
    for _ in range(count):
        fixed = listing[position : position + _CENTRAL.size]
        if len(fixed) < _CENTRAL.size or not fixed.startswith(b"PK\1\2"):
            raise LayoutError("has a damaged directory")
        (
            _,
            _,
            version,
            flags,
            method,
            _,
            _,
            crc32,
            packed,
            size,
            name_length,
            extra_length,
            comment,
            _,
            _,
            mode,
            offset,
        ) = _CENTRAL.unpack(fixed)
        position += _CENTRAL.size
        name = listing[position : position + name_length]
        extra = listing[position + name_length : position + name_length + extra_length]
        position += name_length + extra_length + comment
        wide = _wide_values(extra)
        sizes = [next(wide, value) if value == _MAX32 else value for value in (size, packed, offset)]
        text = name.decode("utf-8", "backslashreplace")
        yield _Entry(text, version, flags, method, crc32, sizes[1], sizes[0], mode >> 16, sizes[2])
    if position != len(listing):
        raise LayoutError("has a damaged directory")


def _wide_values(extra: bytes) -> Iterator[int]:
    if len(extra) >= 4 and extra[:2] == b"\1\0":
        usable = (len(extra) - 4) // 8 * 8
        yield from (value for (value,) in struct.iter_unpack("<Q", extra[4 : 4 + usable]))


def _refuse_foreign(entries: list[_Entry], first: str) -> None:
    """Say in words what other archives have and a bundle has not."""
    for entry in entries:
        if problem := name_problem(entry.name):
            raise LayoutError(f"holds a member whose name {problem}: {entry.name[:80]!r}")
        if entry.flags & 1:
            raise LayoutError(f"holds the encrypted member {entry.name!r}; a bundle's members are stored plainly")
        if entry.method or entry.packed_bytes != entry.size_bytes:
            raise LayoutError(f"holds the compressed member {entry.name!r}; a bundle's members are stored")
        if entry.mode & 0o170000 not in (0, 0o100000):
            raise LayoutError(f"holds {entry.name!r}, which is a link or a special file")
    names = [entry.name for entry in entries]
    if problem := names_problem(names):
        raise LayoutError(f"is ambiguous: {problem}")
    if first not in names:
        other = next((f": it is {what}" for name, what in _KINDS.items() if name in names), "")
        raise LayoutError(f"has no {first}{other}")
    if names != in_order(names, first):
        raise LayoutError(f"does not have {first} first and the other members sorted")


def _compare(file: IO[bytes], size: int, layout: Layout, entries: list[_Entry]) -> None:
    """Compare every structural byte of the file with the layout that its members must have."""
    for member, entry, header, offset in zip(
        layout.members, entries, layout.headers, layout.header_offsets, strict=True
    ):
        if entry.offset != offset:
            raise LayoutError(f"has {member.name!r} at another place than a bundle has it, or overlapping a neighbour")
        if _at(file, offset, len(header)) != header:
            raise LayoutError(f"has a local header of {member.name!r} that disagrees with its directory")
    if layout.size_bytes != size:
        raise LayoutError("has more or fewer bytes than its directory accounts for")
    if _at(file, layout.tail_offset, len(layout.tail)) != layout.tail:
        raise LayoutError("has a directory that edgepack did not write")


def _at(file: IO[bytes], offset: int, count: int) -> bytes:
    """Return up to ``count`` bytes from ``offset``."""
    file.seek(offset)
    return file.read(count)
