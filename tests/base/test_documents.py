"""Documents: what is written is read back equal, and whatever is wrong is refused with its place."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
import subprocess
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack import specs
from edgepack.base import documents
from edgepack.errors import ConfigError
from edgepack.specs.build import BuildRow
from edgepack.specs.bundle import Manifest
from edgepack.specs.data import Preprocessing, Recipe
from edgepack.specs.model import TensorSpec
from edgepack.specs.result import Result
from edgepack.specs.target import Target

SPECS = [
    kind
    for name in (f"edgepack.specs.{module.name}" for module in pkgutil.iter_modules(specs.__path__))
    for _, kind in inspect.getmembers(importlib.import_module(name), dataclasses.is_dataclass)
    if kind.__module__ == name and not name.endswith(("specs.answer", "signal_answers"))  # they are shown
]
text = st.text(max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of values of any type that a document may have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return st.builds(kind, **{name: values(hint) for name, hint in typing.get_type_hints(kind).items()})
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(text, values(arguments[1]), max_size=3)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**64 - 1),
        float: finite,
        bool: st.booleans(),
        str: text,
        type(None): st.none(),
        Path: st.sampled_from(["a", "a/b.bin", "/abs/c", "."]).map(Path),
    }
    return plain[kind]


@dataclass(frozen=True)
class Inner:
    """A part of ``Outer``."""

    count: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    """One field of every kind."""

    name: str
    inner: Inner = Inner(1)
    flag: bool = False
    kind: Literal["a", "b", 3] = "a"
    pair: tuple[int, str] = (0, "")
    many: tuple[Inner, ...] = ()
    table: Mapping[str, Inner] = field(default_factory=dict)
    either: int | str = 0
    maybe: Inner | None = None
    path: Path = Path()
    free: Any = None


# --- back and forth ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_value_that_flows_between_stages_comes_back_equal(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(SPECS))
    value = data.draw(values(kind))
    written = documents.to_json(value)
    assert documents.from_json(kind, written, "test") == value
    assert documents.to_json(documents.from_json(kind, written.encode(), "test")) == written


def test_all_values_of_specs_are_covered() -> None:
    assert {Target, Manifest, Result, Recipe, BuildRow} <= set(SPECS)
    assert len(SPECS) > 20


def test_the_same_value_gives_the_same_text_whatever_the_order_of_keys() -> None:
    first = documents.to_json(Outer("x", table={"b": Inner(1), "a": Inner(2)}))
    second = documents.to_json(Outer("x", table={"a": Inner(2), "b": Inner(1)}))
    assert first == second
    assert first.endswith("}\n")


def test_a_whole_number_is_a_float_where_a_float_is_wanted() -> None:
    value = documents.decode(Inner, {"count": 1, "share": 1}, "test")
    assert value == Inner(1, 1.0)
    assert type(value.share) is float


def test_defaults_fill_what_is_left_out() -> None:
    assert documents.decode(Outer, {"name": "x"}, "test") == Outer("x")


def test_text_of_any_language_is_readable_in_the_document() -> None:
    assert "苹果 🍎" in documents.to_json(Outer("苹果 🍎"))


def test_a_file_name_that_is_not_utf_8_can_be_written_and_read(tmp_path: Path) -> None:
    value = Outer("\udcff", path=tmp_path / "\udcfe")
    written = documents.to_json(value)
    written.encode()
    assert documents.from_json(Outer, written, "test") == value


def test_subclasses_of_numbers_are_written_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert documents.encode(numpy.float64(0.5)) == 0.5
    assert type(documents.encode(numpy.float64(0.5))) is float


# --- paths ------------------------------------------------------------------------------------------------------------


def test_paths_below_the_base_are_relative_in_the_document(tmp_path: Path) -> None:
    value = Outer("x", path=tmp_path / "a" / "b")
    data = documents.encode(value, tmp_path)
    assert data["path"] == "a/b"
    assert documents.decode(Outer, data, "test", Path("/other")).path == Path("/other/a/b")


def test_paths_elsewhere_stay_as_they_are(tmp_path: Path) -> None:
    data = documents.encode(Outer("x", path=Path("/elsewhere/f")), tmp_path)
    assert documents.decode(Outer, data, "test", tmp_path).path == Path("/elsewhere/f")


def test_the_base_itself_is_a_path_below_it(tmp_path: Path) -> None:
    data = documents.encode(Outer("x", path=tmp_path), tmp_path)
    assert documents.decode(Outer, data, "test", tmp_path / "moved").path == tmp_path / "moved"


# --- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="cannot hold the number"):
        documents.to_json(Inner(1, value))


@pytest.mark.parametrize("value", [b"x", {1}, object(), 1j, range(3), Inner])
def test_other_things_are_not_written(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot hold a"):
        documents.encode({"a": [value]})


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ({"nmae": "x"}, "test: unknown key 'nmae'", "did you mean 'name'?"),
        ({"name": "x", "zzz": 1}, "unknown key 'zzz'", "known:"),
        ({"name": "x", "y" * 10_000: 1}, "unknown key 'yyy", "known:"),
        ({}, "test: the key 'name' is missing", "add name = ..."),
        ([], "test: expected a table, found []", "a table"),
        (None, "test: expected a table, found None", "a table"),
        ({"name": 3}, "test: name: expected text, found 3", "text"),
        ({"name": None}, "test: name: expected text, found None", "text"),
        ({"name": "x", "inner": 3}, "test: inner: expected a table", "a table"),
        ({"name": "x", "inner": {}}, "test: inner: the key 'count' is missing", "count"),
        ({"name": "x", "inner": {"count": 1.0}}, "inner: count: expected a whole number, found 1.0", "whole"),
        ({"name": "x", "inner": {"count": True}}, "inner: count: expected a whole number, found True", "whole"),
        ({"name": "x", "inner": {"count": "1"}}, "inner: count: expected a whole number", "whole"),
        ({"name": "x", "inner": {"count": 1, "share": "0.5"}}, "share: expected a number", "number"),
        ({"name": "x", "inner": {"count": 1, "share": False}}, "share: expected a number", "number"),
        ({"name": "x", "inner": {"count": 1, "share": math.inf}}, "share: expected a finite number", "finite"),
        ({"name": "x", "flag": 1}, "flag: expected true or false, found 1", "true or false"),
        ({"name": "x", "kind": "c"}, "kind: 'c' is not one of the allowed values", "known: 3, a, b"),
        ({"name": "x", "kind": True}, "kind: True is not one of the allowed values", "known"),
        ({"name": "x", "kind": ["a"]}, "kind: ['a'] is not one of the allowed values", "a"),
        ({"name": "x", "pair": [1]}, "pair: expected 2 values, found 1", ""),
        ({"name": "x", "pair": [1, 2]}, "pair[1]: expected text, found 2", "text"),
        ({"name": "x", "pair": "ab"}, "pair: expected a list, found 'ab'", "a list"),
        ({"name": "x", "many": {"0": {}}}, "many: expected a list", "a list"),
        ({"name": "x", "many": [{"count": 1}, {"count": "x"}]}, "many[1]: count: expected a whole", "whole"),
        ({"name": "x", "table": []}, "table: expected a table", "a table"),
        ({"name": "x", "table": {"k": {"cuont": 1}}}, "table: k: unknown key 'cuont'", "'count'"),
        ({"name": "x", "either": 1.5}, "either: expected a whole number or text, found 1.5", "a whole number or text"),
        ({"name": "x", "maybe": {"count": None}}, "maybe: count: expected a whole number", "whole"),
        ({"name": "x", "path": 3}, "path: expected the path of a file, found 3", "the path of a file"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(data: Any, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        documents.decode(Outer, data, "test")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'{"name": "x"',
        b'{"name": "x", "name": "y"}',
        b'{"name": "x", "inner": {"count": 1, "count": 2}}',
        b'{"name": "x", "inner": {"count": 1, "share": NaN}}',
        b'{"name": "x", "inner": {"count": 1, "share": -Infinity}}',
        b'{"name": "x", "inner": {"count": 1, "share": 1e999}}',
        b'{"name": "x", "inner": {"count": ' + b"9" * 5000 + b"}}",
        b'{"name": "x", "free": ' + b"[" * 200_000,
        b'{"name": "x"} {"name": "y"}',
        b"'name'",
    ],
)
def test_broken_json_is_refused_with_its_file(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"some\.json: "):
        documents.from_json(Outer, data, "some.json")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_document_is_read_or_refused(data: st.DataObject) -> None:
    target = Target("t", "T", "openvino", "x86_64", sources={"compute.isa": "there"})
    written = bytearray(documents.to_json(target).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(written) - 1))
        written[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=5))
    try:
        found = documents.from_json(Target, bytes(written), "mutated.json")
    except ConfigError:
        return
    assert documents.from_json(Target, documents.to_json(found), "again") == found


@pytest.mark.parametrize("junk", [None, 3, "x", [], [[]], {}, {"": None}, True, 1.5, {"name": []}])
@pytest.mark.parametrize("kind", [Manifest, Result, Target, Recipe, Preprocessing, TensorSpec, BuildRow])
def test_junk_is_refused_by_every_kind(kind: Any, junk: Any) -> None:
    if kind is Preprocessing and junk == {}:
        assert documents.decode(kind, junk, "junk") == Preprocessing()
        return
    with pytest.raises(ConfigError):
        documents.decode(kind, junk, "junk")


# --- suggestions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("precison", ["precision", "target"], "did you mean 'precision'?"),
        ("int4", ["int8", "fp16"], "did you mean 'int8'?"),
        ("INT8", ["fp16", "int8"], "did you mean 'int8'?"),
        ("xyz", ["b", "a"], "known: a, b"),
        (3, [1, 2], "known: 1, 2"),
    ],
)
def test_the_near_word_is_suggested(word: Any, known: list[Any], expected: str) -> None:
    assert documents.suggestion(word, known) == expected


def test_documents_need_the_standard_library_only() -> None:
    code = (
        "import sys, edgepack.base.documents, edgepack.specs.build\n"
        "print('numpy' in sys.modules, 'msgspec' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_a_document_is_json_that_others_read() -> None:
    assert json.loads(documents.to_json(Inner(3)))["count"] == 3


# --- documents that are made to break a reader ------------------------------------------------------------------------


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 400, "more than 64 bits"),
        (str(2**64), "more than 64 bits"),
        ('{"a":[1,2],"b": ' + str(2**64) + "}", "more than 64 bits"),
        (str(-(2**63) - 1), "more than 64 bits"),
        ("9" * 5000, "digits"),
        ("1e999", "1e999 is not a number"),
        ("-1e999", "is not a number"),
        (nested(100), "more than 64 levels deep"),
        (nested(100_000), "more than 64 levels deep"),
        ('{"a":' * 900 + "1" + "}" * 900, "more than 64 levels deep"),
        ("[" + "0," * 2_000_000 + "0]", "more than 2000000 entries"),
        ("\ufeff{}", "byte order mark"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "utf-8"),
        ("{}".encode("utf-32-le"), "Expecting|Extra|Invalid"),
        (b'{"a": "\xff"}', "utf-8"),
        ('{"a": 1, "a": 2}', "the same key twice"),
    ],
)
def test_json_has_limits(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        documents.read_json(text)
    with pytest.raises(ConfigError, match="not valid JSON"):
        documents.from_json(Manifest, text, "m.json")


def test_json_within_the_limits_is_read() -> None:
    assert documents.read_json(str(2**64 - 1)) == 2**64 - 1
    assert documents.read_json(str(-(2**63))) == -(2**63)
    assert documents.read_json(nested(60)) is not None


def test_large_json_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "JSON_LIMIT_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100 are read"):
        documents.read_json("[" + " " * 100 + "]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a." * 20_000 + "b = 1", "a key of more than 16 parts"),
        ("x = 1\n" + "a . " * 20 + "b = 1", r"more than 16 parts \(at line 2\)"),
        ("[" + '"a".' * 20 + "b]", "more than 16 parts"),
        ("[[" + "'a'." * 20 + "b]]", "more than 16 parts"),
        ("a = " + nested(5000), "more than 64 levels deep"),
        ("a = " + nested(100), "more than 64 levels deep"),
        ("a = 0x" + "f" * 40_000, "more than 64 bits"),
        ("a = " + "9" * 400, "more than 64 bits"),
        ("a = " + "9" * 5000, "digits"),
        ("# " + "x" * 200_000, "at most 131072 are read"),
    ],
)
def test_toml_has_limits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        documents.parse_toml(text)


@pytest.mark.parametrize("text", ["a." * 20_000 + "b = 1", "a" * 100_000 + " = 1", '"' * 100_000, "a.b" * 40_000])
def test_a_small_toml_takes_little_memory_and_time(text: str) -> None:
    """40 kB of one dotted key took 1.5 GB."""
    code = (
        "import resource, sys; from edgepack.base import documents\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "try: documents.parse_toml(sys.stdin.read())\n"
        "except ValueError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dots_in_values_are_no_keys() -> None:
    numbers = ", ".join(["0.5"] * 100)
    assert documents.parse_toml(f"a = [{numbers}]\nb = 'one. two. three.'\nc.d.e = 1")["c"] == {"d": {"e": 1}}


@pytest.mark.parametrize("factor", [1, -1])
@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_numbers_that_no_document_holds(digits: int, factor: int) -> None:
    number = factor * 10**digits
    with pytest.raises(ValueError, match="64 bits"):
        documents.to_json({"a": number})
    with pytest.raises(ConfigError, match="expected text"):
        documents.decode(str, number, "x")
    if digits > 308:
        with pytest.raises(ConfigError, match="expected a finite number"):
            documents.decode(float, number, "x")
