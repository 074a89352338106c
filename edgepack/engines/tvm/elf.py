"""Reads the header of a shared library: whose machine code it is, and whether the file is whole.

The loader maps a library before it looks at all of it, so that one cut short ends the process by a signal. Offsets and
numbers are of the System V ABI (gABI, chapter 4) and of the processors' supplements.
"""

from __future__ import annotations

import struct
from pathlib import Path

from edgepack.errors import CompileError

_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_HEADER_BYTES = 64
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


def machine_of(path: Path) -> str:
    """Return the architecture of a 64-bit little-endian ELF file. Raises ``CompileError`` for anything else.

    A file that ends before its segments or its section headers do is refused too.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            if len(head) < _HEADER_BYTES or head[:6] != b"\x7fELF\x02\x01":
                raise _refused(path, "it is not a 64-bit shared library")
            (machine,) = struct.unpack_from("<H", head, 18)
            programs, sections = struct.unpack_from("<QQ", head, 32)
            entry, count, section_entry, section_count = struct.unpack_from("<HHHH", head, 54)
            file.seek(programs)
            table = file.read(entry * count)
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from None
    ends = [sections + section_entry * section_count, programs + entry * count]
    if entry == _PROGRAM_HEADER.size and len(table) == entry * count:
        segments = _PROGRAM_HEADER.iter_unpack(table)
        ends += [offset + stored for _, _, offset, _, _, stored, _, _ in segments]
    if max(ends) > size or not count:
        raise _refused(path, "it is cut short")
    if machine not in _MACHINES:
        raise _refused(path, f"it is for an unknown processor (ELF machine {machine})")
    return _MACHINES[machine]


def _refused(path: Path, why: str) -> CompileError:
    return CompileError(f"TVM refused {path.name}: {why}", hint="compile the model again")
