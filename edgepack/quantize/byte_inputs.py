"""Tensors that are bytes by construction, in units of 1/256: so is their int8 step, whatever the samples hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from edgepack.specs.data import Ranges, TensorRange

if TYPE_CHECKING:
    from collections.abc import Iterator

# The key of a model's metadata under which it names them, one in a line.
BYTES_KEY = "edgepack.bytes"
# Bytes are counted in it: a power of two, so that no arithmetic with it rounds; and not 1, since OpenVINO 2026.4 drops
# a dequantization by 1 and then runs the layer behind it in float.
BYTE_STEP = 2.0**-8
_HIGHEST = 255 * BYTE_STEP
_BYTES = TensorRange(0.0, _HIGHEST, 0.0, _HIGHEST, _HIGHEST)


def byte_tensors(proto: Any) -> Iterator[str]:
    """Yield the tensors that hold bytes in units of ``BYTE_STEP``, as the model's metadata say."""
    for item in proto.metadata_props:
        if item.key == BYTES_KEY:
            yield from item.value.splitlines()


def with_bytes(ranges: Ranges, proto: Any) -> Ranges:
    """Return ranges in which those tensors have all values of a byte: quantizing them then changes none."""
    known = {name: _BYTES for name in byte_tensors(proto) if name in ranges.tensors}
    return dataclasses.replace(ranges, tensors={**ranges.tensors, **known}) if known else ranges
