"""Queries and answers as HTTP carries them: JSON, and behind it the raw bytes of tensors.

Sources: Open Inference Protocol, "HTTP/REST"; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

from edgepack.errors import DataError
from edgepack.serve import tensors
from edgepack.serve.queries import Answer, Query, Wanted
from edgepack.specs.types import Array

LENGTH = "Inference-Header-Content-Length"
_MOST_BRACKETS = 1 << 20  # an empty list takes 20 times the memory of its two characters
_MOST_TENSORS = 4096
_SHARED = "shared_memory_region"


def unpacked(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Return a body as it was before it was compressed. Raises ``DataError`` where it is more than ``most_bytes``."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise DataError(f"unknown Content-Encoding {encoding[:40]!r}", hint="gzip, deflate or none")
    engine = zlib.decompressobj(47)  # gzip's header or zlib's
    try:
        found = engine.decompress(body, most_bytes)
    except zlib.error as error:
        raise DataError(f"the body is not {encoding}: {error}") from None
    if engine.unconsumed_tail or not engine.eof or engine.unused_data:
        raise DataError(f"the body is cut off, or more than {most_bytes} bytes when it is unpacked")
    return found


def read_query(body: bytes, header_bytes: int | None) -> Query:
    """Return the query in a body whose first ``header_bytes`` are JSON (None: all). Raises ``DataError``."""
    if header_bytes is not None and not 0 <= header_bytes <= len(body):
        raise DataError(f"{LENGTH} is {header_bytes}, and the body has {len(body)} bytes")
    data = _object(_parsed(body[:header_bytes]), "the query")
    raw = _Raw(memoryview(body)[len(body) if header_bytes is None else header_bytes :])
    feeds: dict[str, Array] = {}
    for each in _objects(data, "inputs"):
        name = _text(each, "name")
        if name in feeds:
            raise DataError(f"input {name[:80]!r} is given twice")
        feeds[name] = _tensor(name, each, raw)
    raw.end()
    parameters = _parameters(data)
    binary = parameters.get("binary_data_output") is True
    wanted = tuple(_wanted(each, binary) for each in _objects(data, "outputs") if each)
    return Query(feeds, wanted, binary, _text(data, "id") if "id" in data else "")


def write_answer(answer: Answer, query: Query) -> tuple[bytes, int | None]:
    """Return the body, and how many bytes of it are JSON where raw bytes follow. Raises ``DataError``."""
    outputs, tail = [], []
    for wanted in query.outputs or [Wanted(name, query.binary) for name in answer.outputs]:
        array = answer.outputs[wanted.name]
        said: dict[str, Any] = {
            "name": wanted.name, "datatype": tensors.datatype_of(array), "shape": list(array.shape)
        }  # fmt: skip
        if wanted.binary:
            tail.append(tensors.to_raw(array))
            said["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            said["data"] = tensors.to_values(wanted.name, array)
        outputs.append(said)
    head = {"model_name": answer.model, "model_version": answer.version, "outputs": outputs}
    text = json.dumps({**head, "id": query.id} if query.id else head, separators=(",", ":")).encode()
    return b"".join((text, *tail)), len(text) if tail else None


class _Raw:
    """The bytes behind the JSON, which the inputs take in their order."""

    def __init__(self, data: memoryview) -> None:
        self._left = data

    def take(self, name: str, size: Any) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self._left):
            raise DataError(
                f"input {name[:80]!r}: binary_data_size is {str(size)[:40]}, and {len(self._left)} bytes follow"
            )
        found, self._left = self._left[:size], self._left[size:]
        return found

    def end(self) -> None:
        if len(self._left):
            raise DataError(f"{len(self._left)} bytes behind the inputs belong to none of them")


def _tensor(name: str, each: Mapping[str, Any], raw: _Raw) -> Array:
    kind, shape, parameters = _text(each, "datatype"), each.get("shape"), _parameters(each)
    if not isinstance(shape, list):
        raise DataError(f"input {name[:80]!r} has no shape")
    if _SHARED in parameters:
        raise DataError("shared memory is not offered", hint="send the data in the query")
    if "binary_data_size" in parameters:
        if "data" in each:
            raise DataError(f"input {name[:80]!r} has both data and binary_data_size")
        return tensors.from_raw(name[:80], kind, shape, raw.take(name, parameters["binary_data_size"]))
    return tensors.from_values(name[:80], kind, shape, each.get("data"))


def _wanted(each: Mapping[str, Any], binary: bool) -> Wanted:
    parameters = _parameters(each)
    for key in (_SHARED, "classification"):
        if parameters.get(key):
            raise DataError(f"the output parameter {key} is not offered", hint="ask for the whole output")
    return Wanted(_text(each, "name"), parameters.get("binary_data", binary) is True)


def _parsed(text: bytes) -> Any:
    if text.count(b"[") + text.count(b"{") > _MOST_BRACKETS:
        raise DataError("the query has too many lists", hint="send data as one flat list, or as binary data")
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the query is not JSON: {str(error)[:200]}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{what} is not an object")
    return value


def _objects(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key, [] if key == "outputs" else None)
    if not isinstance(found, list) or len(found) > _MOST_TENSORS:
        raise DataError(f"the query has no list {key!r} of at most {_MOST_TENSORS} tensors")
    return [_object(each, f"one of {key}") for each in found]


def _parameters(each: Mapping[str, Any]) -> dict[str, Any]:
    return _object(each.get("parameters", {}), "parameters")


def _text(each: Mapping[str, Any], key: str) -> str:
    found = each.get(key)
    if not isinstance(found, str):
        raise DataError(f"{key!r} is not text")
    return found
