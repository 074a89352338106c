"""int8 graphs whose tensors an If or Loop captures, as ONNX Runtime's optimizer does not take them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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


def optimized_gap(folder: Path, precision: str) -> float:
    """Load graphs as a stranger or an older edgepack may have packed them; return how far optimized answers are off."""
    from backend_models import save

    from edgepack.engines import get_backend
    from edgepack.engines.targets import load_target
    from edgepack.specs.run import RunOptions

    engine, target, gaps = get_backend("onnxruntime"), load_target("host-onnxruntime"), []
    for mover, kind in itertools.product(("Transpose", "Reshape"), ("If", "Loop")):
        proto = graph(mover, kind=kind)
        place = folder / f"{mover}-{kind}"
        compiled = engine.compile_model(save(proto, place / "m.onnx"), target, precision, place / "out")  # type: ignore[arg-type]
        (compiled.folder / compiled.entry).write_bytes(proto.SerializeToString())
        ways = (RunOptions(threads=1), RunOptions(threads=1, optimization="off"))
        answers = [engine.load_model(compiled, way).infer(feeds(proto))["y"] for way in ways]
        gaps.append(float(np.abs(answers[0] - answers[1]).max()))
    return max(gaps)
