"""int8 graphs whose tensors inner graphs capture are loaded by ONNX Runtime instead of ending the process."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from captured_models import MOVERS, branch, feeds, floats, graph, node
from onnx import helper

from edgepack.engines import get_backend
from edgepack.graph.captured import LEFT_OUT, keep_captured, leave_out
from edgepack.graph.load import load_model
from edgepack.graph.wire import Named
from edgepack.quantize.graph.sessions import open_session
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

LOAD = (
    "import sys, onnxruntime as o; s = o.SessionOptions(); s.log_severity_level = 4; "
    "o.InferenceSession(sys.argv[1], s, providers=['CPUExecutionProvider'])"
)


def loads(path: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", LOAD, str(path)], capture_output=True, check=False, timeout=100)
    return done.returncode == 0


@pytest.mark.slow
def test_the_engine_is_aborted_without(tmp_path: Path) -> None:
    """Where it is not any more, the pass can go."""
    proto = graph("Transpose")
    onnx.save(proto, tmp_path / "m.onnx")
    assert not loads(tmp_path / "m.onnx")
    assert keep_captured(proto) == 1
    onnx.save(proto, tmp_path / "m.onnx")
    assert loads(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["If", "Loop"])
@pytest.mark.parametrize("mover", MOVERS)
@pytest.mark.parametrize("twice", [False, True])
def test_the_same_is_computed(mover: str, kind: str, twice: bool) -> None:
    if mover == "Slice" and kind == "Loop":
        mover = "MaxPool"
    proto = graph(mover, kind=kind, captured="mm" if twice else "m", twice=twice)
    wanted = open_session(proto, ["y"], optimized=False)(feeds(proto))["y"]
    assert keep_captured(proto) == 1
    np.testing.assert_array_equal(open_session(proto, ["y"])(feeds(proto))["y"], wanted)
    assert keep_captured(proto) == 0


def test_sessions_of_our_own_are_guarded_and_leave_the_model_alone() -> None:
    proto = graph("Reshape")
    before = proto.SerializeToString()
    assert open_session(proto, ["y"])(feeds(proto))["y"].shape == (1, 4, 2, 8)
    assert proto.SerializeToString() == before


def test_what_is_compiled_loads(tmp_path: Path) -> None:
    onnx.save(graph("Reshape"), tmp_path / "m.onnx")
    engine = get_backend("onnxruntime")
    target = Target(id="x", title="x", backend="onnxruntime", arch="x86_64")
    compiled = engine.compile_model(load_model(tmp_path / "m.onnx"), target, "int8", tmp_path / "out")
    with_captured = engine.load_model(compiled, RunOptions(threads=1))
    assert with_captured.infer(feeds(graph("Reshape")))["y"].shape == (1, 4, 2, 8)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["BASIC", "ALL"])
def test_the_engine_loads_all_without_that_optimizer(level: str) -> None:
    """In processes of their own: what is tried is whether they end."""
    code = (
        "import sys, onnxruntime as o; s = o.SessionOptions(); s.log_severity_level = 4\n"
        f"s.graph_optimization_level = o.GraphOptimizationLevel.ORT_ENABLE_{level}\n"
        f"s.add_session_config_entry(*{LEFT_OUT!r})\n"
        "for g in sys.stdin.read().split():\n"
        "    o.InferenceSession(bytes.fromhex(g), s, providers=['CPUExecutionProvider'])\n"
    )
    graphs = [
        graph(mover, kind=kind) for mover in MOVERS for kind in ("If", "Loop") if (mover, kind) != ("Slice", "Loop")
    ]
    given = "\n".join(one.SerializeToString().hex() for one in graphs)
    subprocess.run([sys.executable, "-c", code], input=given, text=True, check=True, timeout=100)


def test_only_int8_with_branches_goes_without_the_optimizer() -> None:
    def entries(*operators: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        options = SimpleNamespace(add_session_config_entry=lambda *entry: found.append(entry))
        leave_out(options, Named(frozenset(operators), frozenset(), frozenset()))
        return found

    for inner in ("If", "Loop", "Scan"):
        assert entries("DequantizeLinear", "Conv", inner) == [LEFT_OUT]
    assert entries("DequantizeLinear", "Conv") == entries("If", "Loop", "QuantizeLinear") == []


@pytest.mark.parametrize("captured", ["d", "x"])
def test_what_nothing_moved_is_left_alone(captured: str) -> None:
    proto = graph("Reshape", captured=captured)
    before = proto.SerializeToString()
    assert keep_captured(proto) == 0
    assert proto.SerializeToString() == before


def test_a_branch_that_calls_its_own_tensor_alike_keeps_it() -> None:
    proto = graph("Reshape")
    inner = helper.make_graph([node("Abs", "x", "m"), node("Neg", "m", "c")], "c", [], [floats("c")])
    del proto.graph.node[-1].attribute[:]
    proto.graph.node[-1].attribute.extend(
        [helper.make_attribute("then_branch", branch("Neg", "m", "a")), helper.make_attribute("else_branch", inner)]
    )
    assert keep_captured(proto) == 1
    then, other = (attribute.g for attribute in proto.graph.node[-1].attribute)
    assert list(then.node[0].input) == ["m_captured"]
    assert list(other.node[1].input) == ["m"]
