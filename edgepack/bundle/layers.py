"""``layers.json``: what a build measured of each layer of an int8 model, an optional member of a bundle."""

from __future__ import annotations

import re
from pathlib import Path

from edgepack.base import documents
from edgepack.bundle.archive import Bundle, file_entry, read_member
from edgepack.bundle.manifest import LAYERS
from edgepack.errors import BundleError, ConfigError
from edgepack.specs.bundle import LayerRecords

LIMIT_BYTES = 16 << 20
_FORMAT = 1
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def write_layers(records: LayerRecords, out: Path) -> Path:
    """Write ``out/layers.json`` for a bundle and return its path."""
    path = out / LAYERS
    path.write_text(documents.to_json(records), encoding="utf-8")
    return path


def read_layers(bundle: Bundle) -> LayerRecords | None:
    """Return the bundle's ``layers.json``; None when it has none. Raises ``BundleError`` when it is damaged."""
    if LAYERS not in bundle.members:
        return None
    where = f"{bundle.path}: {LAYERS}"
    size = file_entry(bundle, LAYERS).size_bytes
    if size > LIMIT_BYTES:
        raise BundleError(f"{where} has {size} bytes; at most {LIMIT_BYTES} are read")
    try:
        records = documents.from_json(LayerRecords, read_member(bundle, LAYERS), where)
    except (ConfigError, RecursionError, UnicodeDecodeError) as error:
        raise BundleError(f"{where} cannot be read: {str(error)[:300]}", hint="build the bundle again") from None
    if records.format != _FORMAT:
        raise BundleError(f"{where} has format {records.format}; this edgepack reads {_FORMAT}")
    texts = [records.engine, *(t for x in records.layers for t in (x.name, x.operator, x.left or "", x.reads, x.makes))]
    for text in texts:
        if _UNPRINTABLE.search(text):
            raise BundleError(f"{where} holds text with control characters: {text[:60]!a}")
    return records
