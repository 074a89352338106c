"""int8 graphs whose tensors inner graphs capture are loaded by ONNX Runtime instead of ending the process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines import get_backend
from edgepack.graph.captured import keep_captured
from edgepack.graph.load import load_model
from edgepack.quantize.graph.sessions import open_session
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

LOAD = (
    "import sys, onnxruntime as o; s = o.SessionOptions(); s.log_severity_level = 4; "
    "o.InferenceSession(sys.argv[1], s, providers=['CPUExecutionProvider'])"
)
MOVERS: dict[str, dict[str, Any]] = {
    "Reshape": {}, "Transpose": {"perm": [0, 1, 3, 2]}, "MaxPool": {"kernel_shape": [1, 1]}, "Slice": {},
    "Unsqueeze": {},
}  # fmt: skip
SECOND = {"Reshape": ["shape"], "Slice": ["none", "four"], "Unsqueeze": ["none"]}


def floats(name: str, shape: list[int] | None = None) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def branch(operator: str, captured: str, name: str) -> Any:
    return helper.make_graph([node(operator, captured, name)], name, [], [floats(name)])


def graph(mover: str, *, kind: str = "If", captured: str = "m", twice: bool = False) -> onnx.ModelProto:
    """Return x -> Q/DQ -> mover(s) -> If or Loop that captures what they make."""
    arrays = {
        "scale": np.array(0.02, np.float32), "zero": np.array(128, np.uint8), "shape": np.array([1, 4, 2, 8]),
        "none": np.array([0]), "four": np.array([4]), "trip": np.array(2), "yes": np.array(True),
        "begin": np.zeros((), np.float32),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "d"),
        node(mover, " ".join(["d", *SECOND.get(mover, [])]), "m", **MOVERS[mover]),
    ]
    if twice:
        nodes += [node("Transpose", "m", "mm")]
    inputs = [floats("x", [1, 4, 4, 4])]
    if kind == "If":
        inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
        nodes.append(
            node("If", "flag", "y", then_branch=branch("Neg", captured, "a"), else_branch=branch("Abs", captured, "b"))
        )
    else:
        body = helper.make_graph(
            [node("Identity", "ci", "co"), node("Add", f"vi {captured}", "vo")], "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []),
             helper.make_tensor_value_info("ci", TensorProto.BOOL, []), floats("vi")],
            [helper.make_tensor_value_info("co", TensorProto.BOOL, []), floats("vo")],
        )  # fmt: skip
        nodes.append(node("Loop", "trip yes begin", "y", body=body))
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = helper.make_graph(nodes, "g", inputs, [floats("y")], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(proto: onnx.ModelProto) -> dict[str, Any]:
    x = np.random.default_rng(0).uniform(-2, 2, (1, 4, 4, 4)).astype(np.float32)
    return {"x": x} | ({"flag": np.array(True)} if len(proto.graph.input) > 1 else {})


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
