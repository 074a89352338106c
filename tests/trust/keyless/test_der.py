"""DER: its one form, and nothing beside it."""

from __future__ import annotations

import pytest
from sigstore_double import der, oid

from edgepack.trust.keyless.der import OID, SEQUENCE, UTF8, read


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 70_000])
def test_every_length_is_read(size: int) -> None:
    text = der(UTF8, b"x" * size)
    found = read(text)
    assert found.of(UTF8).content == b"x" * size
    assert found.whole == text


def test_elements_inside_are_read_in_their_order() -> None:
    first, second = read(der(SEQUENCE, der(UTF8, b"a"), oid("1.2.840"))).children(SEQUENCE)
    assert (first.content, second.of(OID).content) == (b"a", bytes.fromhex("2a8648"))
    assert read(der(SEQUENCE)).children(SEQUENCE) == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x0c",
        b"\x0c\x02a",
        b"\x0c\x01ab",
        b"\x0c\x81\x01a",  # a length that fits one byte, in two
        b"\x0c\x82\x00\x80" + b"a" * 128,
        b"\x0c\x80a\0\0",  # of no stated length
        b"\x0c\x84\0\0\0\x01a",
        b"\x1f\x81\x01\x00",  # a tag of more than one byte
    ],
)
def test_any_other_form_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(text)


def test_another_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="0x0c stands in the place of 0x30"):
        read(der(UTF8, b"a")).children(SEQUENCE)
