"""Tensors that are bytes by construction: their int8 step is exactly 1, whatever the samples hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from edgepack.specs.data import Ranges, TensorRange

if TYPE_CHECKING:
    from collections.abc import Iterator

# The key of a model's metadata under which it names them, one in a line.
BYTES_KEY = "edgepack.bytes"
_BYTES = TensorRange(0.0, 255.0, 0.0, 255.0, 255.0)


def byte_tensors(proto: Any) -> Iterator[str]:
    """Yield the tensors that hold whole numbers of 0 to 255, as the model's metadata say."""
    for item in proto.metadata_props:
        if item.key == BYTES_KEY:
            yield from item.value.splitlines()


def with_bytes(ranges: Ranges, proto: Any) -> Ranges:
    """Return ranges in which those tensors have all values of a byte: quantizing them then changes none."""
    known = {name: _BYTES for name in byte_tensors(proto) if name in ranges.tensors}
    return dataclasses.replace(ranges, tensors={**ranges.tensors, **known}) if known else ranges
