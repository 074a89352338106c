"""Refuses int8 graphs that would end the process that loads them, as bundles of older edgepacks may hold.

``graph/captured.py`` keeps such graphs from ONNX Runtime's optimizer when a bundle is built, and the model is marked. A
graph without the mark that has both a DequantizeLinear and a branch or loop is loaded in a process of its own first.
Only the nodes of the file are looked at, not its weights, and without the package onnx, which devices do not have.
Source of the field numbers: onnx.proto (ModelProto, GraphProto, NodeProto, StringStringEntryProto).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from edgepack.errors import ChildError, CompileError
from edgepack.execution import child

MARK = "edgepack.captured"
_GRAPH, _METADATA, _NODE, _OPERATOR, _KEY = 7, 14, 1, 4, 1
_BRANCHES = (b"If", b"Loop", b"Scan")
_DEQUANTIZE = b"DequantizeLinear"
_LIMIT_S = 120.0
_LONGEST_VARINT = 10
Field: TypeAlias = tuple[int, int, int]  # number, begin and end of its bytes


def refuse_unguarded(path: Path) -> None:
    """Raise ``CompileError`` for a graph whose loading ends a process; one that cannot be read is left to the engine.

    ``path`` is the .onnx file of an int8 model.
    """
    if not needs_trial(path):
        return
    try:
        child.call(_load, path, limit_s=_LIMIT_S, limit_option="a faster machine")
    except ChildError as error:
        raise CompileError(
            f"ONNX Runtime ends the process that loads {path.name} ({error.message}): its optimizer does not take int8 "
            "tensors that branches or loops capture",
            hint="build the bundle again with this edgepack, or load it without optimizations",
        ) from error


def needs_trial(path: Path) -> bool:
    """Return whether a file holds an unmarked graph with a DequantizeLinear and a branch or loop."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            fields = [found for found in _fields(data, 0, len(data)) if found[0] in (_GRAPH, _METADATA)]
            if any(number == _METADATA and _text(data, begin, end, _KEY) == MARK.encode()
                   for number, begin, end in fields):  # fmt: skip
                return False
            return any(number == _GRAPH and _has_both(data, begin, end) for number, begin, end in fields)
    except (OSError, ValueError, IndexError):  # empty or damaged: the engine says what is wrong
        return False


def _has_both(data: mmap.mmap, begin: int, end: int) -> bool:
    dequantizes = branches = False
    for number, start, stop in _fields(data, begin, end):
        if number != _NODE:
            continue
        operator = _text(data, start, stop, _OPERATOR)
        branches |= operator in _BRANCHES
        dequantizes |= operator == _DEQUANTIZE
        dequantizes |= operator in _BRANCHES and data.find(_DEQUANTIZE, start, stop) >= 0  # in its own graphs
    return dequantizes and branches


def _text(data: mmap.mmap, begin: int, end: int, wanted: int) -> bytes:
    """Return the bytes of a field of a message; b"" where it has none."""
    return next((data[start:stop] for number, start, stop in _fields(data, begin, end) if number == wanted), b"")


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[Field]:
    """Yield the fields of a message that have a length. Raises ``ValueError`` or ``IndexError`` for a damaged one."""
    place = begin
    while place < end:
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(data, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            length, place = _varint(data, place)
            if place + length > end:
                raise ValueError("a field is longer than its message")
            yield key >> 3, place, place + length
            place += length
        else:
            raise ValueError("a field of no known kind")


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    value = 0
    for count in range(_LONGEST_VARINT):
        byte = data[place + count]
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, place + count + 1
    raise ValueError("a number that does not end")


def _load(path: Path) -> None:
    """Load a model as ONNX Runtime does by default; run in a process of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception:  # what it says in words it says again where the model is loaded
        return
