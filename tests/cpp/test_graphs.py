"""Graphs of strangers and of older edgepacks end in C++ as in Python: with the same numbers, or the same words."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import captured_models
import numpy as np
import onnx
import pytest
from cpp_library import Library, Refused
from fuzz_damage import assemble, members_of
from small_bundles import small_compiled, small_facts, small_golden

from edgepack.bundle.pack import pack
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import EdgepackError
from edgepack.graph import wire
from edgepack.graph.load import load_model
from edgepack.quantize.graph.sessions import open_session
from edgepack.runtime.load import load
from edgepack.specs.types import Precision
from edgepack.verify.golden import Golden, write_golden
from edgepack.verify.tolerance import widest

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("engines")]


def elsewhere(location: str, name: str = "t") -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, dims=[1], data_type=onnx.TensorProto.FLOAT, data_location=1)
    for key, value in (("offset", "0"), ("location", location)):
        tensor.external_data.add(key=key, value=value)
    return tensor


def with_weight(proto: onnx.ModelProto, location: str) -> bytes:
    proto.graph.initializer[0].CopyFrom(elsewhere(location, proto.graph.initializer[0].name))
    return proto.SerializeToString()


def with_attribute(proto: onnx.ModelProto, location: str) -> bytes:
    attribute = onnx.helper.make_attribute("value", elsewhere(location))
    proto.graph.node.append(onnx.NodeProto(op_type="Constant", output=["more"], attribute=[attribute]))
    return proto.SerializeToString()


def with_branch(proto: onnx.ModelProto, location: str) -> bytes:
    inner = onnx.GraphProto(name="inner", initializer=[elsewhere(location)])
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))
    return proto.SerializeToString()


ENTRY = "model/onnxruntime/model.onnx"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the members of a bundle that has a second file, which may hold weights."""
    folder = tmp_path_factory.mktemp("good")
    compiled = small_compiled(folder / "compiled")
    (compiled.folder / "own.bin").write_bytes(bytes(4096))
    golden = small_golden(compiled.folder / "model.onnx", folder / "golden.npz")
    path = pack(dataclasses.replace(compiled, files=("model.onnx", "own.bin")), golden, small_facts(), folder)
    return members_of(path.read_bytes())


def packed(good: dict[str, bytes], graph: bytes, path: Path) -> Path:
    """Return the bundle with this in the place of its graph."""
    path.write_bytes(assemble({**good, ENTRY: graph}, ENTRY))
    return path


def both(library: Library, path: Path) -> tuple[Refused | None, Refused | None]:
    """Return what Python and what C++ say when they load a bundle."""
    python = cpp = None
    try:
        with load(path):
            pass
    except EdgepackError as error:
        python = Refused(type(error).__name__, error.message, error.hint)
    try:
        with library.load(path):
            pass
    except Refused as refused:
        cpp = refused
    return python, cpp


@pytest.mark.slow
@pytest.mark.parametrize("place", [with_weight, with_attribute, with_branch])
@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "model.onnx", "golden.npz", "own.bin", "a\tb'\u202e"]
)
def test_files_that_are_none_of_the_bundles(
    place: Callable[[onnx.ModelProto, str], bytes],
    location: str,
    library: Library,
    good: dict[str, bytes],
    tmp_path: Path,
) -> None:
    graph = place(onnx.ModelProto.FromString(good[ENTRY]), location)
    python, cpp = both(library, packed(good, graph, tmp_path / "x.edgepack"))
    if (place, location) == (with_weight, "own.bin"):
        assert "not one of its files" not in f"{cpp} {python}"
        return
    assert cpp is not None
    assert cpp.kind == "CompileError"
    assert "reads" in cpp.message
    assert cpp == python


def deep(count: int) -> bytes:
    """Return a model with so many graphs in each other, each of three messages."""
    graph = b""
    for number in (6, 5, 1) * count:
        graph = wire._message(number, graph)
    return wire._message(7, graph)


@pytest.mark.slow
def test_damage_is_told_in_the_same_words(library: Library, good: dict[str, bytes], tmp_path: Path) -> None:
    whole = good[ENTRY]
    random = np.random.default_rng(3)
    cases = [
        b"",
        b"\x00\x01",
        whole[:-1],
        whole[: len(whole) // 2],
        b"\x3b" + whole,
        b"\xba\x80\x80\x80\x20" + whole,
        b"\x08" + b"\xff" * 9 + b"\x02" + whole,
        b"\x08" + b"\x80" * 11,
        b"\x3a" + b"\xff" * 9 + b"\x01",
        deep(33),
    ]
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, 200, 3):
            damaged[at] = random.integers(256)
        cases.append(bytes(damaged))
    same = 0
    for number, data in enumerate(cases):
        python, cpp = both(library, packed(good, data, tmp_path / "x.edgepack"))
        assert (python is None) == (cpp is None), number
        told = python is not None and python.message.startswith("model.onnx: ")
        assert told == (cpp is not None and cpp.message.startswith("model.onnx: ")), number
        if told:
            assert cpp == python, number
            same += 1
        elif python is not None and cpp is not None:
            assert cpp.kind == python.kind
    assert same > 15


RUN = """
import sys; sys.path[:] = {path!r}
from pathlib import Path
import captured_models, numpy as np, onnx
from cpp_library import Library
library = Library(Path({library!r}))
with library.load(Path({bundle!r}), threads=1) as model:
    np.savez({out!r}, **library.infer(model, captured_models.feeds(onnx.load({graph!r}))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_captured_int8_tensors_do_not_end_the_process(
    kind: str, precision: Precision, library: Library, tmp_path: Path
) -> None:
    proto = captured_models.graph("Transpose", kind=kind)
    onnx.save(proto, tmp_path / "m.onnx")
    target, feeds = load_target("host-onnxruntime"), captured_models.feeds(proto)
    compiled = get_backend("onnxruntime").compile_model(
        load_model(tmp_path / "m.onnx"), target, precision, tmp_path / "compiled"
    )
    (compiled.folder / compiled.entry).write_bytes(proto.SerializeToString())  # as an older edgepack wrote it
    wanted = open_session(proto, ["y"], optimized=False)(feeds)
    golden = write_golden(Golden((feeds,), (wanted,), {"y": widest(precision)}), tmp_path / "golden.npz")
    bundle = pack(compiled, golden, small_facts(target=target, precision=precision), tmp_path)
    names = {"library": str(library.c._name), "bundle": str(bundle), "out": str(tmp_path / "y.npz")}
    code = RUN.format(path=sys.path, graph=str(tmp_path / "m.onnx"), **names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], wanted["y"], atol=1e-6)
