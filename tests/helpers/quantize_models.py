"""Small float models made in code, their ranges, and what engines compute from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.load import load_model
from edgepack.specs.data import Ranges, TensorRange
from edgepack.specs.model import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgepack.specs.types import Array

    Feed = Mapping[str, Array]


def save(
    nodes: Sequence[Any],
    constants: Mapping[str, Array],
    out: Path,
    *,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> OnnxModel:
    """Write a model with float inputs and outputs (of unknown shape) to the file ``out``."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    proto = onnx.shape_inference.infer_shapes(proto)
    onnx.save(proto, out)
    return load_model(out)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """Return a node named after its first output; names of tensors are put apart by spaces."""
    made = outputs.split()
    return helper.make_node(operator, inputs.split(), made, name=made[0], **attributes)


def random_feeds(model: OnnxModel, count: int, seed: int = 0) -> list[dict[str, Array]]:
    """Return standard normal inputs; symbolic dimensions become 1."""
    random = np.random.default_rng(seed)
    shapes = {s.name: [d if isinstance(d, int) else 1 for d in s.shape] for s in model.inputs}
    return [
        {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(count)
    ]


def minmax_ranges(model: OnnxModel, feeds: Sequence[Feed]) -> Ranges:
    """Return the extremes of every float tensor that a node of the main graph makes, and of the inputs."""
    proto = onnx.shape_inference.infer_shapes(onnx.load(model.path))
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*proto.graph.value_info, *proto.graph.output]}
    own = {v.name for v in proto.graph.output}
    for name in [name for node in proto.graph.node for name in node.output if name and name not in own]:
        if kinds.get(name, TensorProto.FLOAT) == TensorProto.FLOAT:
            proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = _session(proto.SerializeToString(), optimized=False)
    names = [o.name for o in session.get_outputs()]
    seen: dict[str, tuple[float, float]] = {}
    for feed in feeds:
        for name, values in {**dict(zip(names, session.run(names, dict(feed)), strict=True)), **feed}.items():
            if isinstance(values, np.ndarray) and values.dtype == np.float32 and values.size:
                low, high = seen.get(name, (np.inf, -np.inf))
                seen[name] = (min(low, float(values.min())), max(high, float(values.max())))
    ranges = {n: TensorRange(low, high, low, high, max(-low, high, 0.0)) for n, (low, high) in seen.items()}
    return Ranges(model.sha256, "0" * 64, "minmax", None, len(feeds), ranges)


def run_onnxruntime(model: OnnxModel, feeds: Sequence[Feed], *, optimized: bool = True) -> list[list[Array]]:
    session = _session(str(model.path), optimized=optimized)
    return [session.run(None, dict(feed)) for feed in feeds]


def run_openvino(model: OnnxModel, feeds: Sequence[Feed]) -> list[list[Array]]:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(model.path), "CPU", settings)
    return [[np.array(values) for values in compiled(dict(feed)).values()] for feed in feeds]


def sqnr_db(reference: Sequence[Sequence[Array]], outputs: Sequence[Sequence[Array]]) -> float:
    """Return 10 log10(signal energy / noise energy) over all outputs; infinite when they are equal."""
    signal = noise = 0.0
    for expected, got in zip(reference, outputs, strict=True):
        for a, b in zip(expected, got, strict=True):
            signal += float((a.astype(np.float64) ** 2).sum())
            noise += float(((a.astype(np.float64) - b) ** 2).sum())
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise)) if signal else float("-inf")


def operators(model: OnnxModel) -> list[str]:
    return [node.op_type for node in onnx.load(model.path).graph.node]


def find_node(model: OnnxModel, name: str) -> Any:
    return next(node for node in onnx.load(model.path).graph.node if node.name == name)


def initializers(model: OnnxModel) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}


def _session(model: str | bytes, *, optimized: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def normal(*shape: int, seed: int = 1) -> Array:
    """Return standard normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def uneven(tmp_path: Path) -> OnnxModel:
    """Two convolutions, between which the channels differ a thousandfold."""
    sizes = np.geomspace(0.03, 30, 8).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="second"),
    ]
    constants = {
        "w1": normal(8, 3, 1, 1) * sizes[:, None, None, None],
        "b1": normal(8, seed=3) * sizes,
        "w2": normal(4, 8, 1, 1, seed=2) / sizes[None, :, None, None],
    }
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 3, 6, 6]})
