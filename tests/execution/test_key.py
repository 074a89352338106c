"""No input of a stage can be forgotten: whatever argument of whatever stage changes, the key changes."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import edgepack
from edgepack.base.stage import stage, stage_of
from edgepack.device.host import host_facts
from edgepack.execution.key import identify, key_of
from edgepack.execution.store import Store
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import UserSource

PACKAGE = Path(edgepack.__file__).resolve().parent
HOST = host_facts()


def stages() -> Iterator[str]:
    """Yield ``module:function`` of every function of the package that is marked as a stage."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "@stage(" in text:
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef) and any("stage(" in ast.unparse(d) for d in node.decorator_list):
                    yield f"{module}:{node.name}"


ALL = tuple(stages())


def function_of(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def sample(hint: Any, folder: Path, text: str) -> Any:
    """Return a value of any type that a stage takes, made of ``text``: other texts give other values."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = hint.__origin__
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    number = len(text)
    if origin in (typing.Union, types.UnionType):
        return sample(next(a for a in arguments if a is not type(None)), folder, text)
    if origin is typing.Literal:
        return arguments[number % len(arguments)]
    if origin is tuple:
        kinds = arguments[:1] if arguments[1:] == (Ellipsis,) else arguments
        return tuple(sample(kind, folder, text) for kind in kinds)
    if origin is not None and issubclass(origin, Mapping):
        return {text: sample(arguments[1], folder, text)}
    if hint is Path:
        path = folder / text
        path.write_text(text)
        return path
    if hint is bool:
        return bool(number % 2)
    if hint in (int, float):
        return hint(number)
    if hint is str or hint is Any:
        return text
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return hint(**{f.name: sample(hints[f.name], folder, text) for f in dataclasses.fields(hint)})
    raise TypeError(f"the test makes no {hint}")


def inputs(function: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    return {n: hints[n] for n in inspect.signature(function).parameters if n not in ("out", "progress")}


def key(function: Any, arguments: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the key without what an engine would be asked for: the values here are made up."""
    monkeypatch.setattr(function, "__stage__", dataclasses.replace(stage_of(function), depends=None))
    return key_of(function, tuple(arguments.values()), Store(tmp_path / "store"), HOST)


def test_all_stages_are_found() -> None:
    assert {"edgepack.calibrate:calibrate", "edgepack.quantize:quantize", "edgepack.verify.evaluate:evaluate"} < set(
        ALL
    )
    assert len(ALL) >= 20


@pytest.mark.parametrize("reference", ALL)
def test_every_argument_of_every_stage_counts(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = function_of(reference)
    hints = inputs(function)
    first = {name: sample(hint, tmp_path, "a") for name, hint in hints.items()}
    plain = key(function, first, tmp_path, monkeypatch)
    assert plain == key(function, first, tmp_path, monkeypatch), "the same call has the same key"
    for name, hint in hints.items():
        other = {**first, name: sample(hint, tmp_path, "bcde")}
        assert other[name] != first[name], "the test must change it"
        assert key(function, other, tmp_path, monkeypatch) != plain, f"{reference}: {name} is forgotten"


# What the sha256 of a value covers, by which alone it counts, and why. Every other field counts beside it.
COVERED = {
    "OnnxModel": {
        "path": "its contents count",
        "size_bytes": "of the file",
        "opset": "read from the file",
        "inputs": "read from the file",
        "outputs": "read from the file",
        "external": "their contents are in the digest",
    },
    "SampleSet": {
        "source": "the samples' contents are in the digest",
        **dict.fromkeys(("kind", "indices", "labelled", "classes", "preprocessing", "task"), "in the digest"),
        "skipped": "words for people, of the stage that chooses samples",
        "notes": "words for people, of the stage that chooses samples",
    },
    "Interpreter": {"python": "what it has is in the digest"},
}


def kinds_within(hint: Any) -> Iterator[type[Any]]:
    """Yield every dataclass that a type is made of."""
    for inner in typing.get_args(hint):
        yield from kinds_within(inner)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        yield hint
        for inner in typing.get_type_hints(hint, include_extras=True).values():
            yield from kinds_within(inner)


def test_a_digest_stands_for_a_value_only_with_all_that_it_does_not_cover(store: Store, tmp_path: Path) -> None:
    found = {
        kind for reference in ALL for hint in inputs(function_of(reference)).values() for kind in kinds_within(hint)
    }
    digested = {kind.__name__: kind for kind in found if "sha256" in {field.name for field in dataclasses.fields(kind)}}
    assert set(digested) == set(COVERED)
    for name, kind in digested.items():
        value = sample(kind, tmp_path, "a")
        others = {field.name for field in dataclasses.fields(kind)} - {"sha256", *COVERED[name]}
        for field in others:
            changed = dataclasses.replace(value, **{field: sample(typing.get_type_hints(kind)[field], tmp_path, "bc")})
            assert identify(changed, store) != identify(value, store), f"{name}.{field} is forgotten"


def test_what_was_seen_of_a_models_batches_counts_beside_its_file(store: Store, tmp_path: Path) -> None:
    model = OnnxModel(tmp_path / "a.onnx", "digest", 1, 17, (), ())
    assert identify(model, store) != identify(dataclasses.replace(model, mixes_batch=True), store)


@pytest.mark.parametrize("reference", ALL)
def test_a_child_can_decode_what_every_stage_takes_and_returns(reference: str) -> None:
    """Types that are there for type checkers alone end in a NameError when the stage runs."""
    hints = typing.get_type_hints(function_of(reference))
    assert "return" in hints
    assert hints["out"] is Path


def test_this_host_counts_where_numbers_or_speed_depend_on_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    other, busier = dataclasses.replace(HOST, isa=("none",)), dataclasses.replace(HOST, cores=HOST.cores + 1)

    def same(function: Any, host: Any) -> bool:
        return bool(key_of(function, (), store, host) == key_of(function, (), store, HOST))

    @stage("plain")
    def plain(out: Path) -> None: ...

    @stage("numbers", host="numbers")
    def numbers(out: Path) -> None: ...

    @stage("speed", host="speed")
    def speed(out: Path) -> None: ...

    assert [same(f, other) for f in (plain, numbers, speed)] == [True, False, False]
    assert [same(f, busier) for f in (plain, numbers, speed)] == [True, True, False]


def test_what_a_stage_depends_on_besides_counts(tmp_path: Path) -> None:
    versions = {"engine": "1"}

    @stage("compile", depends=lambda model: {**versions, "model": model})
    def compile_it(model: str, out: Path) -> None: ...

    store = Store(tmp_path / "store")
    before = key_of(compile_it, ("net",), store, HOST)
    versions["engine"] = "2"
    assert key_of(compile_it, ("net",), store, HOST) != before


# --- what a value is --------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_path_counts_by_content_wherever_it_is(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    assert identify(tmp_path / "a", store) == identify(tmp_path / "b", store)
    (tmp_path / "b").write_text("2")
    assert identify(tmp_path / "a", store) != identify(tmp_path / "b", store)


def test_a_folder_counts_by_the_names_and_contents_in_it(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_text("1")
    assert identify(tmp_path / "a", store) == identify(tmp_path / "b", store)
    (tmp_path / "b" / "deep" / "file").rename(tmp_path / "b" / "deep" / "other")
    assert identify(tmp_path / "a", store) != identify(tmp_path / "b", store)


def test_a_value_with_a_digest_counts_by_it(store: Store, tmp_path: Path) -> None:
    model = OnnxModel(tmp_path / "a.onnx", "digest", 1, 17, (), ())
    assert identify(model, store) == identify(dataclasses.replace(model, path=tmp_path / "b.onnx"), store)
    assert identify(model, store) != identify(dataclasses.replace(model, sha256="other"), store)


def test_what_a_user_named_counts_by_place_and_content(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("def make(): ...\n")
    before = identify(f"{file}:make", store, UserSource)
    assert before == identify(f"{file}:make", store, UserSource | None)
    file.write_text("def make(): return 1\n")
    assert identify(f"{file}:make", store, UserSource) != before
    (tmp_path / "a.png").write_bytes(b"1")
    before = identify(str(tmp_path), store, UserSource)
    (tmp_path / "a.png").write_bytes(b"2")
    assert identify(str(tmp_path), store, UserSource) != before
    assert identify("package.module:name", store, UserSource) == "package.module:name"


def test_text_that_is_no_path_of_a_user_is_only_text(store: Store, tmp_path: Path) -> None:
    assert identify(str(tmp_path), store, str) == str(tmp_path)


def test_numbers_that_no_document_can_hold_differ_too(store: Store) -> None:
    values = [float("inf"), float("-inf"), float("nan"), 0.0, -0.0, 1.0, 1, True, None, "1"]
    assert len({str([type(v).__name__, identify(v, store)]) for v in values}) == len(values)


def test_a_value_that_nothing_is_known_of_is_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="cannot depend on a object"):
        identify(object(), store)
