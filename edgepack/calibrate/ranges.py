"""Reads the ranges document as untrusted input."""

from __future__ import annotations

from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import read_regular
from edgepack.errors import ConfigError, DataError
from edgepack.specs.data import Ranges, TensorRange

_HINT = "measure them again: 'edgepack calibrate MODEL --data DATA -o ranges.json'"


def read_ranges(path: Path) -> Ranges:
    """Read ranges and check that each can be one. Raises ``DataError`` or ``ConfigError`` naming file and tensor."""
    try:
        if path.stat().st_size > documents.JSON_LIMIT_BYTES:
            raise DataError(f"{path} is too large for a ranges document", hint=_HINT)
        text = read_regular(path, documents.JSON_LIMIT_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    ranges = documents.from_json(Ranges, text, str(path))
    if ranges.samples < 1 or not ranges.tensors:
        raise ConfigError(f"{path} contains no ranges", hint=_HINT)
    for name, found in ranges.tensors.items():
        _check(found, f"{path}: {name!r}")
    return ranges


def _check(found: TensorRange, where: str) -> None:
    """Raise ``ConfigError`` unless the numbers can be a range; that they are finite is checked as they are read."""
    if not found.minimum <= found.maximum:
        raise ConfigError(f"{where}: the minimum {found.minimum} is above the maximum {found.maximum}", hint=_HINT)
    if not found.low <= 0.0 <= found.high:
        raise ConfigError(f"{where}: the range from {found.low} to {found.high} does not include 0", hint=_HINT)
    if found.magnitude < 0.0:
        raise ConfigError(f"{where}: the magnitude {found.magnitude} is negative", hint=_HINT)
    if max(abs(v) for v in (found.minimum, found.maximum, found.low, found.high, found.magnitude)) > 3.5e38:
        raise ConfigError(f"{where}: a value is beyond float32", hint=_HINT)
