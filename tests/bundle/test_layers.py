"""layers.json, which a stranger may have written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from small_bundles import small_bundle

from edgepack.base import documents
from edgepack.bundle import layers as module
from edgepack.bundle.archive import Bundle, open_checked
from edgepack.bundle.layers import read_layers, write_layers
from edgepack.bundle.manifest import LAYERS
from edgepack.errors import BundleError
from edgepack.specs.bundle import LayerRecord, LayerRecords

LAYER_RECORDS = (
    LayerRecord("conv", "Conv", True, "int8", sqnr_db=31.5, macs=7),
    LayerRecord("r", "Relu", False, "fp32"),
)
RECORDS = LayerRecords(8, "onnxruntime 1.2.3", LAYER_RECORDS)


def packed(tmp_path: Path, records: LayerRecords | None) -> Bundle:
    path = small_bundle(tmp_path, records=records)
    with open_checked(path) as (_, bundle):
        return bundle


def holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> Bundle:
    """A bundle whose layers.json is ``data``."""
    bundle = packed(tmp_path, RECORDS)
    monkeypatch.setattr(module, "read_member", lambda _bundle, name: data if name == LAYERS else b"")
    return bundle


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(documents.to_json(RECORDS)), **changes}).encode()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert write_layers(RECORDS, tmp_path).name == LAYERS
    assert read_layers(packed(tmp_path, RECORDS)) == RECORDS


def test_a_bundle_without_them_has_none(tmp_path: Path) -> None:
    assert read_layers(packed(tmp_path, None)) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, changed(samples="eight"), changed(more=1), changed(layers=[{}])],
)
def test_what_is_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    with pytest.raises(BundleError, match=r"layers\.json cannot be read"):
        read_layers(holding(tmp_path, monkeypatch, data))


def test_another_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="has format 2; this edgepack reads 1"):
        read_layers(holding(tmp_path, monkeypatch, changed(format=2)))


@pytest.mark.parametrize("field", ["name", "operator", "left", "reads", "makes"])
@pytest.mark.parametrize("text", ["a\x1b[31mred", "a\nb", "\x7f", "\x9b"])
def test_text_that_could_steer_a_terminal_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, text: str
) -> None:
    layer = dataclasses.replace(RECORDS.layers[0], **{field: text})
    data = documents.to_json(dataclasses.replace(RECORDS, layers=(layer,))).encode()
    with pytest.raises(BundleError, match="text with control characters") as caught:
        read_layers(holding(tmp_path, monkeypatch, data))
    assert text not in caught.value.message


def test_a_huge_member_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = packed(tmp_path, RECORDS)
    monkeypatch.setattr(module, "LIMIT_BYTES", 10)
    monkeypatch.setattr(module, "read_member", lambda *_: pytest.fail("it was read"))
    with pytest.raises(BundleError, match="at most 10 are read"):
        read_layers(bundle)
