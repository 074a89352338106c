"""Says what reading a source would execute, by its bytes alone: nothing is loaded, imported or run."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What these functions raise for a damaged file.
DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    RecursionError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
_MOST_BYTES = 64 << 20
_MOST_OPCODES = 2_000_000
_MOST_PICKLES = 4
# What stands for names that cannot be told.
HIDDEN = "something whose name it hides"
UNREAD = "whatever follows, which only loading it would show"
_UNREAD_OPCODE = "UNREAD"
_STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")
# What torch.load(weights_only=True) builds by itself; a file that names nothing else is weights.
_WEIGHTS = re.compile(
    r"torch\.(\w*Storage|Size|device|\w*Tensor|Tensor|\w+|serialization\._get_layout|_utils\._rebuild_\w+"
    r"|storage\.\w+|nn\.parameter\.Parameter)|collections\.OrderedDict|_codecs\.encode|builtins\.(set|bytearray)"
    r"|numpy\.(_?core\.multiarray\.(_reconstruct|scalar)|ndarray|dtype)"
)
# JSON may write any letter as its number, and blanks where it likes. Not every loader of .h5 has a safe mode.
_ESCAPED = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_LAMBDA = re.compile(rb'"class_name"\s*:\s*"(?:\w+>)?(?:Lambda|__lambda__)"')
# TensorFlow operators that reach outside the graph (tensorflow/core/ops), but for those of every checkpoint.
_REACHES_OUT = (
    "PyFunc", "EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles", "DeleteFile", "MakeUnique",
    "RpcCall", "TryRpc", "IteratorFromStringHandle", "LoadDataset", "SaveDataset", "SaveDatasetV2", "TextLineDataset",
    "FixedLengthRecordDataset", "TFRecordDataset", "DebugNumericSummary", "XlaHostCompute",
)  # fmt: skip


def pickle_names(path: Path) -> tuple[str, ...]:
    """Return the names that a pickle would import and may call, in their order; those of torch's zip files too."""
    seen: dict[str, None] = {}
    for data in _pickles(path):
        for name in classes(data):
            seen.setdefault(name)
    return tuple(seen)


def beyond_weights(path: Path) -> tuple[str, ...]:
    """Return the names in a file of torch.save that are not weights: what loading it would run."""
    return tuple(name for name in pickle_names(path) if not _WEIGHTS.fullmatch(name))


def lambda_layers(path: Path) -> tuple[str, ...]:
    """Return the Lambda layers of a Keras file, each of which holds Python code."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            text = file.read(_MOST_BYTES)
    else:
        text = path.read_bytes()
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text)
    count = len(_LAMBDA.findall(plain))
    return tuple(f"the Python code of {count} Lambda layer{'s' if count > 1 else ''}" for _ in range(min(count, 1)))


def side_effects(folder: Path) -> tuple[str, ...]:
    """Return the operators of a SavedModel that reach outside its graph: files, other programs, Python functions."""
    data = (folder / "saved_model.pb").read_bytes()
    # NodeDef.op is field 2, a string: its tag, its length, the name
    return tuple(op for op in _REACHES_OUT if b"\x12" + bytes([len(op)]) + op.encode() in data)


def remote_code(folder: Path) -> tuple[str, ...]:
    """Return the Python files that a Hugging Face folder asks transformers to import (auto_map)."""
    found = set()
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        config = json.loads(path.read_bytes())
        mapped = config.get("auto_map", {}) if isinstance(config, dict) else {}
        found |= {str(value) for entry in mapped.values() for value in (entry if isinstance(entry, list) else [entry])}
    return tuple(sorted(found - {"None"}))


def contents(path: Path) -> Iterator[bytes]:
    """Yield what names the tensors and classes of a file of torch: its pickles, or the header of safetensors."""
    with path.open("rb") as file:
        begin = file.read(9)
        if begin[8:] == b"{":
            yield file.read(min(int.from_bytes(begin[:8], "little"), _MOST_BYTES))
            return
    yield from _pickles(path)


def classes(data: bytes) -> Iterator[str]:
    """Yield the names that a pickle would import, in their order; nothing is imported or built.

    A name that is put together in another way than Python's own pickles do it is ``HIDDEN``; where the first pickle is
    not read to its end, ``UNREAD`` is the last one. A pickle of which nothing is yielded imports nothing.
    """
    strings: list[str] = []  # what was pushed last, one string after the other
    memo: dict[int, str | None] = {}
    last: str | None = None
    for count, (name, argument) in enumerate(_opcodes(data)):
        if count == _MOST_OPCODES:
            yield UNREAD
            return
        if name in ("PROTO", "FRAME"):
            continue
        if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            memo[len(memo) if argument is None else int(argument)] = last
            continue
        if name == _UNREAD_OPCODE:
            yield UNREAD
        elif name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif name == "STACK_GLOBAL":
            yield ".".join(strings[-2:]) if len(strings) > 1 else HIDDEN
        elif name.startswith("EXT"):
            yield f"extension {argument} of copyreg"
        last = _pushed(name, argument, memo)
        strings = [*strings[-1:], last] if last is not None else []


def _pushed(name: str, argument: object, memo: Mapping[int, str | None]) -> str | None:
    """Return the string that an opcode leaves on top of the stack, or None."""
    if name in ("BINGET", "LONG_BINGET", "GET"):
        return memo.get(int(str(argument)))
    return argument if name in _STRINGS and isinstance(argument, str) else None


def _opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the opcodes of one pickle after the other: torch's older files begin with three about themselves.

    The last one is ``_UNREAD_OPCODE`` where the first pickle has no end: joblib puts the bytes of arrays into it.
    """
    file = io.BytesIO(data)
    for count in range(_MOST_PICKLES):
        try:
            for opcode, argument, _ in pickletools.genops(file):
                yield opcode.name, argument
        except ValueError:
            if count == 0 and file.tell() == 0:
                raise
            if count == 0:
                yield _UNREAD_OPCODE, None
            return  # what follows is not a pickle but the tensors' own bytes


def _pickles(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw:
        begin = raw.read(6)
    # by its first bytes, as those who load it see it: a pickle may have a zip file behind it
    if begin.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as file:
                        yield file.read(_MOST_BYTES)
        return
    opened: Any = path.open("rb")
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if begin.startswith(magic):
            opened.close()
            opened = opener(path, "rb")
    with opened as file:
        data = file.read(_MOST_BYTES)
    yield zlib.decompressobj().decompress(data, _MOST_BYTES) if begin[:1] == b"\x78" else data
