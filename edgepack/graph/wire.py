"""Reads an ONNX file's structure without its weights: large raw data stays in the file, whatever the file's size.

ONNX is protobuf; the wire format is https://protobuf.dev/programming-guides/encoding, the field numbers are those of
onnx.proto. A tensor whose bytes are left behind becomes an external tensor that points into the .onnx file itself, so
the result is still a true description of the model, from which any single tensor can be read.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, NamedTuple

from edgepack.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Tensors up to this many bytes stay inline: shape inference reads shapes, axes and scales from them.
INLINE_BYTES = 4096

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_GRAPH_OUTPUT, _VALUE_NAME = 12, 1
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION, _LOCATION_EXTERNAL = 13, 14, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_KEY, _MOST_NUMBER = 2**32 - 1, 2**64 - 1
MOST_LEVELS = 100  # as protobuf reads no more
# Which fields of a message hold what: messages in which a tensor or an operator may stand, and what is read of them.
# The tensors of the main graph itself are its weights; others are in attributes, branches and functions.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {_MODEL_GRAPH: "main", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "main": {1: "node", _GRAPH_INITIALIZER: "weight", 15: "sparse"},
    "graph": {1: "node", _GRAPH_INITIALIZER: "tensor", 15: "sparse"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "weight": {_TENSOR_EXTERNAL_DATA: "place of weights"},
    "tensor": {_TENSOR_EXTERNAL_DATA: "place"},
}
_HINT = "the file is damaged or not ONNX: copy it again, or export it again"


class _Field(NamedTuple):
    """One field of a message: its number, wire type, and where its tag, its value and its end are in the file."""

    number: int
    kind: int
    tag: int
    value: int
    end: int


def read_skeleton(path: Path) -> bytes:
    """Return the file's ModelProto with the main graph's large ``raw_data`` replaced by references into the file.

    Raises ``ModelError`` when the file is truncated or is not protobuf.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return b"".join(_model_pieces(data, path.name))


class Named(NamedTuple):
    """What an ONNX file names, as it is named, wherever it stands: operators, and the files that hold tensors.

    ``weights`` are files of the main graph's initializers, ``others`` those of all other tensors.
    """

    operators: frozenset[str]
    weights: frozenset[str]
    others: frozenset[str]

    @property
    def files(self) -> frozenset[str]:
        """All files, whether they are there or not."""
        return self.weights | self.others


def read_named(path: Path) -> Named:
    """Return what a file names; without the package onnx, for a device, before an engine opens anything of it.

    Raises ``ModelError`` as ``read_skeleton``, and for an empty file.
    """
    if path.stat().st_size == 0:
        raise ModelError(f"{path.name} is empty", hint=_HINT)
    found: dict[str, set[str]] = {"operator": set(), "place of weights": set(), "place": set()}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        levels = [(MESSAGES["model"], _fields(data, 0, len(data)))]
        while levels:
            inside, fields = levels[-1]
            field = next(fields, None)
            if field is None:
                levels.pop()
            elif field.kind != _BYTES or field.number not in inside:
                continue
            elif (kind := inside[field.number]) in MESSAGES:
                if len(levels) == MOST_LEVELS:
                    raise ModelError(
                        f"not an ONNX file: more than {MOST_LEVELS} messages lie in each other", hint=_HINT
                    )
                levels.append((MESSAGES[kind], _fields(data, field.value, field.end)))
            else:
                found[kind].update(_names(data, kind, field))
    return Named(*(frozenset(names) for names in found.values()))


def _names(data: mmap.mmap, kind: str, field: _Field) -> Iterator[str]:
    """Yield the name in a field of these kinds: an operator's, or the file's where a tensor lies."""
    if kind == "operator":
        yield _text(data[field.value : field.end])
        return
    inner = (one for one in _fields(data, field.value, field.end) if one.kind == _BYTES)
    entry = {one.number: data[one.value : one.end] for one in inner}
    if entry.get(1) == b"location":
        yield _text(entry.get(2, b""))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def graph_header(rest_bytes: int, initializers: list[int]) -> bytes:
    """Return what precedes a graph of ``rest_bytes`` that is followed by ``initializers`` of these sizes."""
    total = rest_bytes + sum(len(_head(_GRAPH_INITIALIZER, size)) + size for size in initializers)
    return _head(_MODEL_GRAPH, total)


def initializer(tensor: bytes) -> bytes:
    """Return a serialized tensor as an initializer of a graph."""
    return _message(_GRAPH_INITIALIZER, tensor)


def outputs(names: Iterable[str]) -> bytes:
    """Return a model that holds nothing but outputs of these names, to be joined with another one."""
    values = (_message(_VALUE_NAME, name.encode()) for name in names)
    return _message(_MODEL_GRAPH, b"".join(_message(_GRAPH_OUTPUT, value) for value in values))


def _model_pieces(data: mmap.mmap, location: str) -> Iterator[bytes]:
    for field in _fields(data, 0, len(data)):
        if field.number == _MODEL_GRAPH and field.kind == _BYTES:
            yield _message(_MODEL_GRAPH, b"".join(_graph_pieces(data, field, location)))
        else:
            yield data[field.tag : field.end]


def _graph_pieces(data: mmap.mmap, graph: _Field, location: str) -> Iterator[bytes]:
    for field in _fields(data, graph.value, graph.end):
        large = field.end - field.value > INLINE_BYTES
        if field.number == _GRAPH_INITIALIZER and field.kind == _BYTES and large:
            yield _message(_GRAPH_INITIALIZER, _tensor(data, field, location))
        else:
            yield data[field.tag : field.end]


def _tensor(data: mmap.mmap, tensor: _Field, location: str) -> bytes:
    fields = list(_fields(data, tensor.value, tensor.end))
    raw = [f for f in fields if f.number == _TENSOR_RAW_DATA and f.kind == _BYTES]
    external = any(f.number in (_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION) for f in fields)
    if len(raw) != 1 or external or raw[0].end - raw[0].value <= INLINE_BYTES:
        return data[tensor.value : tensor.end]
    kept = b"".join(data[f.tag : f.end] for f in fields if f is not raw[0])
    return kept + _reference(location, raw[0].value, raw[0].end - raw[0].value)


def _reference(location: str, offset: int, length: int) -> bytes:
    """Return the fields of a TensorProto that say where its bytes are."""
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    pairs = (_message(1, key.encode()) + _message(2, value.encode()) for key, value in entries.items())
    place = b"".join(_message(_TENSOR_EXTERNAL_DATA, pair) for pair in pairs)
    return place + _varint(_TENSOR_DATA_LOCATION << 3 | _VARINT) + _varint(_LOCATION_EXTERNAL)


def _fields(data: mmap.mmap, position: int, end: int) -> Iterator[_Field]:
    """Walk the fields of the message between ``position`` and ``end``."""
    while position < end:
        tag = position
        key, position = _read_varint(data, position, end)
        number, kind = key >> 3, key & 7
        if key > _MOST_KEY:  # protobuf drops the bits above, and sees another field
            raise ModelError(f"not an ONNX file: a field of the number {number} at byte {tag}", hint=_HINT)
        if number == 0:
            raise ModelError(f"not an ONNX file: a field without a number at byte {tag}", hint=_HINT)
        if kind == _VARINT:
            value, (_, position) = position, _read_varint(data, position, end)
        elif kind == _BYTES:
            length, value = _read_varint(data, position, end)
            position = value + length
        elif kind in (_FIXED64, _FIXED32):
            value, position = position, position + (8 if kind == _FIXED64 else 4)
        else:
            raise ModelError(f"not an ONNX file: wire type {kind} at byte {tag}", hint=_HINT)
        if position > end:
            raise ModelError(
                f"the ONNX file is truncated or damaged: the field at byte {tag} needs {position - end} bytes more",
                hint=_HINT,
            )
        yield _Field(number, kind, tag, value, position)


def _read_varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """Return the number that starts at ``position`` and the position after it."""
    result = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ModelError(f"the ONNX file is truncated or damaged: a number is cut at byte {position}", hint=_HINT)
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80 and result <= _MOST_NUMBER:
            return result, position
    raise ModelError(f"not an ONNX file: a number of more than 64 bits before byte {position}", hint=_HINT)


def _message(number: int, content: bytes) -> bytes:
    """Return ``content`` as the length-delimited field ``number``."""
    return _head(number, len(content)) + content


def _head(number: int, size: int) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(size)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
