"""JSON and TOML documents to frozen dataclasses and back: the dataclass is the schema.

Standard library only, because a device reads manifests with it. A document may come from anybody: JSON is UTF-8 without
a byte order mark, and size, depth, entries and numbers have limits, so that a small file cannot take a lot of memory or
break a later step. Unknown keys are refused with the nearest known one;
every error names the place. A ``Path`` below ``base`` is written relative to it and read back below it; others are
written as they are. A document from elsewhere must name files by ``str`` and check them, as manifests do.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgepack.errors import ConfigError, ToolchainError

T = TypeVar("T")

JSON_LIMIT_BYTES = 64 << 20
TOML_LIMIT_BYTES = 128 << 10
MOST_DEPTH = 64
MOST_ENTRIES = 2_000_000
MOST_KEY_PARTS = 16
_LEAST_INTEGER, _MOST_INTEGER = -(1 << 63), (1 << 64) - 1
# tomllib's memory grows with the square of a dotted key's parts: 40 kB took 1.5 GB.
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEY_PART}[ \t]*\.[ \t]*){{{MOST_KEY_PARTS}}}")


def encode(value: Any, base: Path | None = None) -> Any:
    """Return ``value`` (a dataclass, possibly nested) as JSON types; a non-finite float is refused."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name), base) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(value[key], base) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [encode(item, base) for item in value]
    if isinstance(value, Path):
        return value.relative_to(base).as_posix() if base and value.is_relative_to(base) else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a document cannot hold the number {value}")
        return float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"a document cannot hold a {type(value).__name__}")


def to_json(value: Any, base: Path | None = None) -> str:
    """Return ``value`` as indented JSON with a final newline; the same value gives the same text.

    Raises ``ValueError`` for what a reader would refuse.
    """
    encoded = encode(value, base)
    _check_limits(encoded)
    text = json.dumps(encoded, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in the name of a file that is not UTF-8
        text = json.dumps(encoded, indent=1, ensure_ascii=True, allow_nan=False)
    return text + "\n"


def from_json(kind: type[T], text: str | bytes, where: str, base: Path | None = None) -> T:
    """Read a JSON document into ``kind``. Raises ``ConfigError`` naming ``where`` and the place inside it."""
    try:
        data = read_json(text)
    except ValueError as error:
        raise ConfigError(
            f"{where}: not valid JSON: {error}", hint="write it again with the tool that made it"
        ) from None
    result: T = decode(kind, data, where, base)
    return result


def read_json(text: str | bytes) -> Any:
    """Return what a JSON document holds, within the limits above; keys stand once, numbers are finite.

    Raises ``ValueError`` that says what is wrong.
    """
    if len(text) > JSON_LIMIT_BYTES:
        raise ValueError(f"it has {len(text)} bytes; at most {JSON_LIMIT_BYTES} are read")
    try:
        words = text.decode("utf-8") if isinstance(text, bytes) else text
        if words.startswith("\ufeff"):
            raise ValueError("it begins with a byte order mark")
        data = json.loads(words, parse_float=_finite, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError(f"it is more than {MOST_DEPTH} levels deep") from None
    _check_limits(data)
    return data


def _check_limits(data: Any) -> None:
    """Raise ``ValueError`` for what is deeper, longer or larger than a document may be.

    Floats are looked at where they are decoded, which names the place, but JSON's 1e999 is no number at all.
    """
    level, entries = [data], 0
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, int) and not _LEAST_INTEGER <= item <= _MOST_INTEGER:
                raise ValueError("a whole number has more than 64 bits")
        entries += len(inner)
        if entries > MOST_ENTRIES:
            raise ValueError(f"it has more than {MOST_ENTRIES} entries")
        if not inner:
            return
        level = inner
    raise ValueError(f"it is more than {MOST_DEPTH} levels deep")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML document, within the limits above.

    Raises ``ValueError`` that says what is wrong, and ``ToolchainError`` on Python 3.10, which cannot read TOML.
    """
    try:
        import tomllib
    except ModuleNotFoundError:
        raise ToolchainError(
            "reading TOML files needs Python 3.11 or newer", hint="run this command on the machine that builds bundles"
        ) from None
    if len(text) > TOML_LIMIT_BYTES:
        raise ValueError(f"it has {len(text)} characters; at most {TOML_LIMIT_BYTES} are read")
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"a key of more than {MOST_KEY_PARTS} parts (at line {line})")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is more than {MOST_DEPTH} levels deep") from None
    _check_limits(data)
    return data


def decode(kind: Any, data: Any, where: str, base: Path | None = None) -> Any:
    """Check ``data`` against the type ``kind`` and return it as that type. Raises ``ConfigError``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, where, base)
    if origin is typing.Literal:
        return _decode_literal(arguments, data, where)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, data, where, base)
    if origin is tuple:
        return _decode_tuple(arguments, data, where, base)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise _wrong(where, "a table", data)
        return {key: decode(arguments[1], item, f"{where}: {key}", base) for key, item in data.items()}
    return _decode_scalar(kind, data, where, base)


def _decode_dataclass(kind: Any, data: Any, where: str, base: Path | None) -> Any:
    if not isinstance(data, dict):
        raise _wrong(where, "a table", data)
    hints = _hints(kind)
    for key in data:
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {_show(key)}", hint=suggestion(key, hints))
    values = {key: decode(hints[key], item, f"{where}: {key}", base) for key, item in data.items()}
    for spec in dataclasses.fields(kind):
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and spec.name not in values:
            raise ConfigError(f"{where}: the key {spec.name!r} is missing", hint=f"add {spec.name} = ...")
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode_literal(allowed: tuple[Any, ...], data: Any, where: str) -> Any:
    if isinstance(data, bool) or data not in allowed:
        raise ConfigError(f"{where}: {_show(data)} is not one of the allowed values", hint=suggestion(data, allowed))
    return data


def _decode_union(kinds: tuple[Any, ...], data: Any, where: str, base: Path | None) -> Any:
    if data is None and type(None) in kinds:
        return None
    candidates = [kind for kind in kinds if kind is not type(None)]
    if len(candidates) == 1:
        return decode(candidates[0], data, where, base)
    for kind in candidates:
        try:
            return decode(kind, data, where, base)
        except ConfigError:
            continue
    raise _wrong(where, " or ".join(getattr(kind, "__name__", str(kind)) for kind in candidates), data)


def _decode_tuple(kinds: tuple[Any, ...], data: Any, where: str, base: Path | None) -> Any:
    if not isinstance(data, list):
        raise _wrong(where, "a list", data)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(decode(kinds[0], item, f"{where}[{i}]", base) for i, item in enumerate(data))
    if len(data) != len(kinds):
        raise ConfigError(f"{where}: expected {len(kinds)} values, found {len(data)}")
    return tuple(
        decode(kind, item, f"{where}[{i}]", base) for i, (kind, item) in enumerate(zip(kinds, data, strict=True))
    )


def _decode_scalar(kind: Any, data: Any, where: str, base: Path | None) -> Any:
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        try:
            number = float(data)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _wrong(where, "a finite number", data)
        return number
    if kind is Path and isinstance(data, str):
        return base / data if base else Path(data)
    if (kind in (int, bool, str) and type(data) is kind) or (kind is type(None) and data is None):
        return data
    raise _wrong(
        where, {int: "a whole number", bool: "true or false", str: "text", float: "a number"}.get(kind, str(kind)), data
    )


def suggestion(word: Any, known: Any) -> str:
    """Return "did you mean 'x'?" for the nearest of ``known``, else the list of all of them."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(word)[:100], names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(sorted(names))


def _wrong(where: str, expected: str, data: Any) -> ConfigError:
    return ConfigError(f"{where}: expected {expected}, found {_show(data)}", hint=f"write {expected} there")


def _show(data: Any) -> str:
    try:
        text = repr(data)
    except ValueError:  # Python writes no more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a number that a document may hold")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that a document may hold")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a table has the same key twice")
    return result
