"""Addresses of shared stores: what they mean, and what is refused before any work."""

from __future__ import annotations

import pytest

from edgepack.errors import ConfigError
from edgepack.execution.shared.address import Address, is_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://builds/team/a", Address("s3", "builds/team/a")),
        ("s3://builds/", Address("s3", "builds")),
        ("gs://my-bucket/x?read-only", Address("gs", "my-bucket/x", read_only=True)),
        ("file:///nfs/store", Address("file", "/nfs/store")),
    ],
)
def test_an_address_says_where_and_what_may_be_done(text: str, address: Address) -> None:
    assert is_address(text)
    assert parse_address(text) == address
    assert text.startswith(address.url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://host/x", "ftp:// is not known"),
        ("s3://", "bucket"),
        ("s3:///x", "bucket"),
        ("s3://UPPER/x", "bucket"),
        ("s3://builds/../other", "'..'"),
        ("s3://builds//x", "''"),
        ("s3://builds/x?write", "?write"),
        ("file://nfs/x", "three strokes"),
        ("file:///", "three strokes"),
        ("file:///a/../../etc", "'..'"),
        ("s3://builds/a*b", "a*b"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match="--store") as caught:
        parse_address(text)
    assert why in caught.value.message
    assert "s3://BUCKET/FOLDER" in caught.value.hint


@pytest.mark.parametrize("text", ["store", "/nfs/store", "a:b", ""])
def test_a_folder_is_none(text: str) -> None:
    assert not is_address(text)
