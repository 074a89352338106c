"""Records of a shared store: they come back as they were written, and nothing hostile is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import ConfigError
from edgepack.execution.shared import record as module
from edgepack.execution.shared.record import (
    BadRecordError,
    Blob,
    Record,
    document_of,
    make_record,
    read_record,
    read_secret,
    write_record,
)

KEY, SUM = "a" * 64, "b" * 64
SECRET = b"s" * 32
DOCUMENT = {"stage": "export", "version": 2, "files": {"d/model.onnx": [5, SUM]}, "value": {"path": "d/model.onnx"}}
RECORD = make_record(KEY, DOCUMENT)


def written(**changes: Any) -> bytes:
    return write_record(replace(RECORD, **changes), None)


def test_a_record_comes_back() -> None:
    assert document_of(read_record(write_record(RECORD, None), "export", KEY, None)) == DOCUMENT
    assert document_of(read_record(write_record(RECORD, SECRET), "export", KEY, SECRET)) == DOCUMENT
    assert RECORD.size_bytes == 5


@pytest.mark.parametrize(
    "name",
    [
        "../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\nb", "a\\b", "a\0b", "_value.json", "x" * 300, "d",
        "\ud800", "\u00e9" * 200, "/".join(["x" * 200] * 8),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    files = {name: Blob(5, SUM), "d/model.onnx": Blob(5, SUM)}
    with pytest.raises(BadRecordError, match="cannot be the name of a file"):
        read_record(written(files=files), "export", KEY, None)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "expected a table"),
        (write_record(RECORD, None)[:-30], "JSON"),
        (written(key="c" * 64), "another output"),
        (written(stage="compile"), "another output"),
        (written(format=2), "format 2"),
        (written(files={"x": Blob(-1, SUM)}), "-1 bytes"),
        (written(files={"x": Blob(1 << 62, SUM)}), "bytes"),
        (written(files={"x": Blob(1, "../../" + SUM[6:])}), "sha256"),
        (written(files={f"{i}": Blob(1, SUM) for i in range(10_001)}), "more than 10000 files"),
        (write_record(RECORD, None).replace(b'"d/model.onnx"', b'"d/other.onnx"'), "digest does not match"),
        (json.dumps({"format": 1, "more": 1}).encode(), "unknown key"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, why: str) -> None:
    with pytest.raises(BadRecordError) as caught:
        read_record(data, "export", KEY, None)
    assert why in str(caught.value)


def test_a_store_with_a_key_takes_only_what_was_written_with_it() -> None:
    for data in (write_record(RECORD, None), write_record(RECORD, b"t" * 32)):
        with pytest.raises(BadRecordError, match="EDGEPACK_STORE_KEY"):
            read_record(data, "export", KEY, SECRET)
    forged = json.loads(write_record(RECORD, SECRET))
    forged["value"] = {"path": "other"}
    other = Record(**{**forged, "files": RECORD.files})
    resealed = json.loads(write_record(other, None)) | {"proof": forged["proof"]}
    with pytest.raises(BadRecordError, match="EDGEPACK_STORE_KEY"):
        read_record(json.dumps(resealed).encode(), "export", KEY, SECRET)


@given(st.data())
def test_a_changed_byte_is_refused_or_says_the_same(data: st.DataObject) -> None:
    text = bytearray(write_record(RECORD, SECRET))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    try:
        found = read_record(bytes(text), "export", KEY, SECRET)
    except BadRecordError:
        return
    assert document_of(found) == DOCUMENT


@pytest.mark.parametrize(
    ("content", "mode", "why"), [(b"short", 0o600, "fewer than 32"), (b"k" * 40, 0o644, "other users can read")]
)
def test_a_key_that_keeps_nothing_secret_is_refused(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=why):
        read_secret(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_secret(tmp_path / "none")


def test_a_key_is_read_without_its_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * 40 + b"\n")
    path.chmod(0o600)
    assert read_secret(path) == b"k" * 40
    assert module.MOST_BYTES > 1 << 20
