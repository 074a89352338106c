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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from edgepack.errors import ConfigError, ToolchainError

T = TypeVar("T")

JSON_LIMIT_BYTES = 64 << 20
TOML_LIMIT_BYTES = 128 << 10
MOST_DEPTH = 64
MOST_ENTRIES = 2_000_000
MOST_KEY_PARTS = 16
_KIND_WORDS = {
    int: "a whole number", bool: "true or false", str: "text", float: "a number", Path: "the path of a file",
    type(None): "nothing",
}  # fmt: skip
_LEAST_INTEGER, _MOST_INTEGER = -(1 << 63), (1 << 64) - 1
_SURELY_64_BITS = 19  # digits
# Where no row of digits is as long, whole numbers are read without looking at each; half of a result's values are such.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * _SURELY_64_BITS
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
    _check_integers(encoded)
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
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        data = _decoder(long=_LONG in raw.translate(_DIGITS)).decode(words)
    except RecursionError:
        raise ValueError(f"it is more than {MOST_DEPTH} levels deep") from None
    if len(words) > MOST_ENTRIES or words.count("[") + words.count("{") > MOST_DEPTH:
        _check_limits(data)
    return data


@functools.cache
def _decoder(*, long: bool) -> json.JSONDecoder:
    """Return what reads JSON; ``long``: numbers may have more than 64 bits."""
    return json.JSONDecoder(
        parse_int=_integer if long else None,
        parse_float=_finite,
        parse_constant=_refuse_constant,
        object_pairs_hook=_unique_keys,
    )


def _check_limits(data: Any) -> None:
    """Raise ``ValueError`` for what is deeper or longer than a document may be."""
    level, entries = [data], 0
    for _ in range(MOST_DEPTH):
        items = [item.values() if type(item) is dict else item for item in level if type(item) in (dict, list)]
        if not items:
            return
        entries += sum(map(len, items))
        if entries > MOST_ENTRIES:
            raise ValueError(f"it has more than {MOST_ENTRIES} entries")
        level = [inner for item in items for inner in item if type(inner) in (dict, list)]
    raise ValueError(f"it is more than {MOST_DEPTH} levels deep")


def _check_integers(data: Any) -> None:
    """Raise ``ValueError`` for a whole number of more than 64 bits; the depth has been checked."""
    if isinstance(data, dict | list):
        for item in data.values() if isinstance(data, dict) else data:
            _check_integers(item)
    elif isinstance(data, int):
        _check_integer(data)


def _check_integer(number: int) -> int:
    if not _LEAST_INTEGER <= number <= _MOST_INTEGER:
        raise ValueError("a whole number has more than 64 bits")
    return number


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
    _check_integers(data)
    return data


def decode(kind: Any, data: Any, where: str, base: Path | None = None) -> Any:
    """Check ``data`` against the type ``kind`` and return it as that type. Raises ``ConfigError``."""
    return _reader(kind)(data, (None, where), base)


# Where a value stands: in what, and there under which key or at which index. It is put into words for errors only.
_Place: TypeAlias = tuple[Any, str | int]
_Reader: TypeAlias = Callable[[Any, _Place, Path | None], Any]


@functools.cache
def _reader(kind: Any) -> _Reader:
    """Return what reads values of a type: made once for each, as a report reads thousands of documents."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda data, _place, _base: data
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(kind)
    if origin is typing.Literal:
        return functools.partial(_read_literal, arguments)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple:
        return _list_reader(arguments[0]) if arguments[1:] == (Ellipsis,) else _tuple_reader(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _table_reader(arguments[1])
    return functools.partial(_read_scalar, kind)


def _dataclass_reader(kind: Any) -> _Reader:
    missing = dataclasses.MISSING
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    readers = {name: _reader(hint) for name, hint in hints.items()}
    taken = {name: _taken_as_it_is(hint) for name, hint in hints.items()}

    def read(data: Any, place: _Place, base: Path | None) -> Any:
        if not isinstance(data, dict):
            raise _wrong(place, "a table", data)
        for key in data:
            if key not in readers:
                raise ConfigError(f"{_words(place)}: unknown key {_show(key)}", hint=suggestion(key, readers))
        values = {
            key: item if type(item) is taken[key] else readers[key](item, (place, key), base)
            for key, item in data.items()
        }
        for name in required:
            if name not in values:
                raise ConfigError(f"{_words(place)}: the key {name!r} is missing", hint=f"add {name} = ...")
        return kind(**values)

    return read


def _taken_as_it_is(kind: Any) -> Any:
    """Return the type whose values a reader of ``kind`` returns unchanged, so that it need not be called; else None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        kind = kinds[0] if len(kinds) == 1 else None
    return kind if kind in (int, str, bool) else None


def _read_literal(allowed: tuple[Any, ...], data: Any, place: _Place, _base: Path | None) -> Any:
    if isinstance(data, bool) or data not in allowed:
        raise ConfigError(
            f"{_words(place)}: {_show(data)} is not one of the allowed values", hint=suggestion(data, allowed)
        )
    return data


def _union_reader(kinds: tuple[Any, ...]) -> _Reader:
    candidates = [kind for kind in kinds if kind is not type(None)]
    readers, optional = [_reader(kind) for kind in candidates], len(candidates) < len(kinds)
    expected = " or ".join(dict.fromkeys(kind_words(kind) for kind in candidates))

    def read(data: Any, place: _Place, base: Path | None) -> Any:
        if data is None and optional:
            return None
        if len(readers) == 1:
            return readers[0](data, place, base)
        for reader in readers:
            try:
                return reader(data, place, base)
            except ConfigError:
                continue
        raise _wrong(place, expected, data)

    return read


def _list_reader(kind: Any) -> _Reader:
    reader = _reader(kind)
    same = kind if kind in (int, str, bool) else None

    def read(data: Any, place: _Place, base: Path | None) -> Any:
        if not isinstance(data, list):
            raise _wrong(place, "a list", data)
        if same is not None and all(type(item) is same for item in data):
            return tuple(data)
        return tuple([reader(item, (place, i), base) for i, item in enumerate(data)])

    return read


def _tuple_reader(kinds: tuple[Any, ...]) -> _Reader:
    readers = [_reader(kind) for kind in kinds]

    def read(data: Any, place: _Place, base: Path | None) -> Any:
        if not isinstance(data, list):
            raise _wrong(place, "a list", data)
        if len(data) != len(readers):
            raise ConfigError(f"{_words(place)}: expected {len(readers)} values, found {len(data)}")
        return tuple([readers[i](item, (place, i), base) for i, item in enumerate(data)])

    return read


def _table_reader(kind: Any) -> _Reader:
    reader = _reader(kind)

    def read(data: Any, place: _Place, base: Path | None) -> Any:
        if not isinstance(data, dict):
            raise _wrong(place, "a table", data)
        return {key: reader(item, (place, key), base) for key, item in data.items()}

    return read


def _read_scalar(kind: Any, data: Any, place: _Place, base: Path | None) -> Any:
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return _read_float(data, place)
    if kind is Path and isinstance(data, str):
        return base / data if base else Path(data)
    if (kind in (int, bool, str) and type(data) is kind) or (kind is type(None) and data is None):
        return data
    raise _wrong(place, kind_words(kind), data)


def kind_words(kind: Any) -> str:
    """Return what a value of a type is to who writes documents: no name of a class."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(kind))
    if origin is not None and issubclass(origin, tuple):
        return "a list"
    return _KIND_WORDS.get(kind, "a table")


def _read_float(data: float, place: _Place) -> float:
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(place, "a finite number", data)
    return number


def suggestion(word: Any, known: Any) -> str:
    """Return "did you mean 'x'?" for those of ``known`` that have it as a part, or the nearest; else all of them."""
    names = [str(name) for name in known]
    if str(word) and (meant := [name for name in names if str(word).casefold() in name.split("-")]):
        return f"did you mean {' or '.join(map(repr, meant))}?"
    near = nearest(str(word), names)
    return f"did you mean {near!r}?" if near is not None else "known: " + ", ".join(sorted(names))


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that is written most like ``word``, in whatever case; None where none is much like it."""
    by_letters = {name.casefold(): name for name in reversed([*names])}
    near = difflib.get_close_matches(word[:100].casefold(), by_letters, n=1, cutoff=0.6)
    return by_letters[near[0]] if near else None


def _words(place: _Place) -> str:
    """Return where a value stands: "file.json: inputs[0]: shape"."""
    outer, name = place
    if outer is None:
        return str(name)
    return f"{_words(outer)}[{name}]" if isinstance(name, int) else f"{_words(outer)}: {name}"


def _wrong(place: _Place, expected: str, data: Any) -> ConfigError:
    return ConfigError(f"{_words(place)}: expected {expected}, found {_show(data)}", hint=f"write {expected} there")


def _show(data: Any) -> str:
    try:
        text = repr(data)
    except ValueError:  # Python writes no more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _integer(text: str) -> int:
    return int(text) if len(text) < _SURELY_64_BITS else _check_integer(int(text))


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
