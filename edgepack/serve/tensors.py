"""Tensors as the Open Inference Protocol sends them: its names of types, raw bytes, and lists of values.

What comes is a stranger's: its shape and its type are compared with its length before anything is allocated.
Source: Open Inference Protocol, "Tensor Data Types"; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgepack.errors import BundleError, DataError
from edgepack.specs.model import TensorSpec
from edgepack.specs.types import Array

TEXT = "BYTES"
_MOST_DIMENSIONS = 32
_MOST_VALUES = 1 << 48
_DTYPES = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()} | dict.fromkeys(("object", "str", "string"), TEXT)
_TAKEN = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}  # kinds of values that a kind of tensor takes


def datatype(spec: TensorSpec) -> str:
    """Return the protocol's name of a tensor's type. Raises ``BundleError`` for one that it does not send."""
    if spec.dtype not in _DATATYPES:
        raise BundleError(
            f"{spec.name!r} has the type {spec.dtype}, which cannot be sent to a server",
            hint="build the bundle with float32 inputs and outputs",
        )
    return _DATATYPES[spec.dtype]


def shape_of(spec: TensorSpec) -> list[int]:
    """Return a shape as metadata has it: -1 where it is free."""
    return [size if isinstance(size, int) else -1 for size in spec.shape]


def datatype_of(array: Array) -> str:
    """Return the protocol's name of an array's type."""
    return _DATATYPES.get(array.dtype.name, TEXT)


def count_of(name: str, shape: Sequence[Any]) -> int:
    """Return how many values a shape has. Raises ``DataError`` for what is not a shape."""
    if len(shape) > _MOST_DIMENSIONS or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise DataError(f"input {name!r}: its shape is not a list of at most {_MOST_DIMENSIONS} whole numbers")
    if math.prod(size or 1 for size in shape) > _MOST_VALUES:  # numpy has no such shape, also of no values
        raise DataError(f"input {name!r}: the shape {list(shape)} is larger than any query")
    return math.prod(shape)


def from_raw(name: str, kind: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """Return the array in ``data``, little-endian and row by row. Raises ``DataError`` where they do not fit."""
    count = count_of(name, shape)
    if kind == TEXT:
        return _texts(name, count, bytes(data)).reshape(shape)
    dtype = np.dtype(_dtype(name, kind))
    if len(data) != count * dtype.itemsize:
        raise DataError(
            f"input {name!r}: {len(data)} bytes are not {kind} {list(shape)}, which is {count * dtype.itemsize} bytes"
        )
    array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)
    if kind == "BOOL" and count and array.view(np.uint8).max() > 1:
        raise DataError(f"input {name!r}: BOOL bytes are 0 or 1")
    return array.astype(dtype, copy=False)


def from_values(name: str, kind: str, shape: Sequence[int], values: Any) -> Array:
    """Return the array of a list of values, flat or nested as the shape is. Raises ``DataError``."""
    count = count_of(name, shape)
    if not isinstance(values, list):
        raise DataError(f"input {name!r}: data is not a list")
    found = _listed_texts(name, values) if kind == TEXT else _listed_numbers(name, kind, values)
    if found.size != count or found.ndim not in (1, len(shape)) or (found.ndim > 1 and found.shape != tuple(shape)):
        raise DataError(f"input {name!r}: data has the shape {list(found.shape)}, not {list(shape)}")
    return found.reshape(shape)


def to_raw(array: Array) -> bytes:
    """Return the bytes of an output, little-endian and row by row."""
    if datatype_of(array) != TEXT:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(struct.pack("<I", len(text)) + text for text in map(_encoded, array.reshape(-1).tolist()))


def to_values(name: str, array: Array) -> list[Any]:
    """Return the values of an output as one flat list for JSON. Raises ``DataError`` for what JSON does not have."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"output {name!r} holds NaN or an infinite number, which JSON does not have",
            hint="ask for it with the parameter binary_data, or by gRPC",
        )
    flat: list[Any] = array.reshape(-1).tolist()
    return flat if datatype_of(array) != TEXT else [_encoded(text).decode() for text in flat]


def _dtype(name: str, kind: str) -> str:
    if kind not in _DTYPES:
        raise DataError(
            f"input {name!r}: unknown datatype {str(kind)[:40]!r}", hint=f"one of {', '.join((*_DTYPES, TEXT))}"
        )
    return _DTYPES[kind]


def _texts(name: str, count: int, data: bytes) -> Array:
    """Return texts that have their length, four bytes, before them."""
    if 4 * count > len(data):
        raise DataError(f"input {name!r}: {len(data)} bytes do not hold {count} texts")
    found: list[bytes] = []
    place = 0
    while place + 4 <= len(data) and len(found) < count:
        (length,) = struct.unpack_from("<I", data, place)
        found.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    if place != len(data) or len(found) != count:
        raise DataError(f"input {name!r}: its bytes are not {count} texts, each after its length")
    return _decoded(name, found)


def _decoded(name: str, texts: Iterable[bytes]) -> Array:
    try:
        return _objects([text.decode("utf-8") for text in texts])
    except UnicodeDecodeError:
        raise DataError(f"input {name!r} is not UTF-8 text") from None


def from_texts(name: str, shape: Sequence[int], texts: Sequence[bytes]) -> Array:
    """Return the array of texts that came one by one. Raises ``DataError``."""
    if len(texts) != count_of(name, shape):
        raise DataError(f"input {name!r}: {len(texts)} texts are not {list(shape)}")
    return _decoded(name, texts).reshape(shape)


def _listed_texts(name: str, values: list[Any]) -> Array:
    flat = values
    shape = [len(values)]
    while flat and len(shape) < _MOST_DIMENSIONS and _are_lists_alike(flat):
        shape.append(len(flat[0]))
        flat = [one for each in flat for one in each]
    if not all(_is_utf8(each) for each in flat):
        raise DataError(f"input {name!r}: data is not a list of texts")
    return _objects(flat).reshape(shape)


def _are_lists_alike(values: list[Any]) -> bool:
    return all(isinstance(each, list) and len(each) == len(values[0]) for each in values)


def _listed_numbers(name: str, kind: str, values: list[Any]) -> Array:
    dtype = np.dtype(_dtype(name, kind))
    try:
        found = np.array(values) if values else np.zeros(0, dtype)
        if dtype == np.uint64 and found.dtype.kind == "f":  # what numpy makes of numbers on both sides of 2^63
            found = _whole(values)
    except (ValueError, OverflowError, RecursionError):
        raise DataError(f"input {name!r}: data is ragged or holds numbers that are too large") from None
    if found.size and found.dtype.kind not in _TAKEN[dtype.kind]:
        raise DataError(f"input {name!r}: data does not hold {kind} values alone")
    with np.errstate(over="ignore"):
        cast = found.astype(dtype)
    lost = cast != found if dtype.kind in "iu" else ~np.isfinite(cast) if dtype.kind == "f" else np.zeros(1, bool)
    if lost.any():
        raise DataError(f"input {name!r}: data holds a number that is out of the range of {kind}")
    return cast


def _whole(values: list[Any]) -> Array:
    """Return whole numbers up to 2^64. Raises ``OverflowError`` for larger ones, ``ValueError`` for others."""
    found = np.array(values, object)
    if not all(type(each) is int and each >= 0 for each in found.reshape(-1).tolist()):
        raise ValueError
    return found.astype(np.uint64)


def _objects(texts: list[str]) -> Array:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def _is_utf8(text: object) -> bool:
    """Say whether a value is a text without half characters, which JSON can write."""
    return isinstance(text, str) and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _encoded(text: object) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("utf-8", "replace")
