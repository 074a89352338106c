"""Bundles of older edgepacks whose int8 graphs end the process that loads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from captured_models import feeds, graph
from onnx import helper

from edgepack.engines import get_backend
from edgepack.engines.onnxruntime.unguarded import needs_trial
from edgepack.errors import CompileError
from edgepack.graph.load import load_model
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

TARGET = Target(id="x", title="x", backend="onnxruntime", arch="x86_64")


def compiled_of(proto: onnx.ModelProto, folder: Path, *, old: bool) -> CompiledModel:
    """Return the model as it is compiled now, or as it was before its captured tensors were kept."""
    folder.mkdir(exist_ok=True)
    onnx.save(proto, folder / "m.onnx")
    made = get_backend("onnxruntime").compile_model(load_model(folder / "m.onnx"), TARGET, "int8", folder / "out")
    if old:
        onnx.save(proto, folder / "out" / made.entry)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_an_old_one_is_an_error_and_loads_without_optimizations(tmp_path: Path, kind: str) -> None:
    proto = graph("Transpose", kind=kind)
    old = compiled_of(proto, tmp_path, old=True)
    engine = get_backend("onnxruntime")
    with pytest.raises(CompileError, match=r"ends the process that loads model\.onnx"):
        engine.load_model(old, RunOptions(threads=1))
    plain = engine.load_model(old, RunOptions(threads=1, optimization="off"))
    assert np.isfinite(plain.infer(feeds(proto))["y"]).all()


@pytest.mark.slow
def test_an_old_one_that_does_no_harm_is_loaded(tmp_path: Path) -> None:
    proto = graph("Reshape", captured="d")
    old = compiled_of(proto, tmp_path, old=True)
    assert needs_trial(old.folder / old.entry)
    runner = get_backend("onnxruntime").load_model(old, RunOptions(threads=1))
    assert np.isfinite(runner.infer(feeds(proto))["y"]).all()


def test_what_is_compiled_now_needs_no_trial(tmp_path: Path) -> None:
    for number, captured in enumerate(("m", "d")):
        made = compiled_of(graph("Reshape", captured=captured), tmp_path / str(number), old=False)
        assert not needs_trial(made.folder / made.entry)


def test_only_int8_with_branches_is_tried(tmp_path: Path) -> None:
    proto = graph("Transpose")
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    assert needs_trial(path)
    inner = onnx.ModelProto.FromString(proto.SerializeToString())  # all of it inside a branch
    then = helper.make_graph(list(proto.graph.node), "all", [], [proto.graph.output[0]])
    del inner.graph.node[:]
    inner.graph.node.append(helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=then))
    onnx.save(inner, path)
    assert needs_trial(path)
    without = onnx.ModelProto.FromString(proto.SerializeToString())
    del without.graph.node[-1]
    onnx.save(without, path)
    assert not needs_trial(path)
    floating = onnx.ModelProto.FromString(proto.SerializeToString())
    for node in floating.graph.node:
        node.op_type = "Identity" if node.op_type == "DequantizeLinear" else node.op_type
    onnx.save(floating, path)
    assert not needs_trial(path)


def test_damaged_files_are_left_to_the_engine(tmp_path: Path) -> None:
    whole = graph("Transpose").SerializeToString()
    path = tmp_path / "m.onnx"
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        needs_trial(path)
    random = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 5):
            data[place] = random.integers(256)
        path.write_bytes(data)
        needs_trial(path)
    old = dataclasses.replace(compiled_of(graph("Transpose"), tmp_path / "c", old=False))
    (old.folder / old.entry).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CompileError):
        get_backend("onnxruntime").load_model(old, RunOptions(threads=1))
