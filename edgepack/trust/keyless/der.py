"""Reads DER (ITU-T X.690): what of certificates and timestamps the package ``cryptography`` does not read."""

from __future__ import annotations

from dataclasses import dataclass

INTEGER, OCTETS, OID, UTF8, TIME, SEQUENCE, SET = 0x02, 0x04, 0x06, 0x0C, 0x18, 0x30, 0x31
_MOST_LENGTH_BYTES = 3


@dataclass(frozen=True)
class Element:
    """One element: its tag, its content, and the bytes of both with the length."""

    tag: int
    content: bytes
    whole: bytes

    def of(self, tag: int) -> Element:
        """Return this element. Raises ``ValueError`` when it has another tag."""
        if self.tag != tag:
            raise ValueError(f"tag {self.tag:#04x} stands in the place of {tag:#04x}")
        return self

    def children(self, tag: int) -> tuple[Element, ...]:
        """Return the elements inside an element that has ``tag``. Raises ``ValueError``."""
        data, found = self.of(tag).content, []
        while data:
            each, data = _first(data)
            found.append(each)
        return tuple(found)


def read(data: bytes) -> Element:
    """Return the one element that ``data`` is. Raises ``ValueError`` for anything else."""
    found, rest = _first(data)
    if rest:
        raise ValueError(f"{len(rest)} bytes follow")
    return found


def _first(data: bytes) -> tuple[Element, bytes]:
    """Return the first element and what follows it: a tag of one byte, a definite length in its shortest form."""
    if len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise ValueError("it ends too early, or has a long tag")
    length, begin = data[1], 2
    if length >= 0x80:
        size = length - 0x80
        begin += size
        length = int.from_bytes(data[2:begin], "big")
        if not 0 < size <= _MOST_LENGTH_BYTES or length < (0x80 if size == 1 else 1 << 8 * (size - 1)):
            raise ValueError("a length is not in its shortest form, or too large")
    end = begin + length
    if end > len(data):
        raise ValueError("it ends too early")
    return Element(data[0], data[begin:end], data[:end]), data[end:]
