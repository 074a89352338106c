"""Small models made in code for the tests of the engines, each with a function that makes inputs for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepack.specs.model import OnnxModel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgepack.specs.types import Array

FLOAT, FLOAT16, BFLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
INT64, BOOL, UINT8, INT8 = TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8, TensorProto.INT8
Value = tuple[str, int, Sequence[int | str]]


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def save(proto: onnx.ModelProto, path: Path) -> OnnxModel:
    """Write a model and describe it, without the checks of ``graph.load_model``: some of these models are wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    opset = next(entry.version for entry in proto.opset_import if entry.domain == "")
    data = path.read_bytes()
    return OnnxModel(
        path, hashlib.sha256(data).hexdigest(), len(data), opset, _specs(proto.graph.input), _specs(proto.graph.output)
    )


def _specs(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        return TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in tensor.shape.dim))

    return tuple(spec(value) for value in values)


def _random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv() -> onnx.ModelProto:
    """A convolution and a classifier; the batch is free. The value of ``scores`` is about 1."""
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], "first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], "second"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "third"),
        helper.make_node("Flatten", ["p"], ["f"], "fourth"),
        helper.make_node("Gemm", ["f", "v", "d"], ["scores"], "fifth", transB=1),
    ]
    weights = {"w": _random(0, 8, 3, 3, 3) / 5, "b": _random(1, 8) / 5, "v": _random(2, 10, 8), "d": _random(3, 10)}
    return make(nodes, [("image", FLOAT, ["N", 3, 12, 12])], [("scores", FLOAT, ["N", 10])], weights)


def gemm() -> onnx.ModelProto:
    """A matrix product whose every dimension is fixed."""
    nodes = [helper.make_node("Gemm", ["x", "w"], ["g"]), helper.make_node("Tanh", ["g"], ["y"])]
    return make(nodes, [("x", FLOAT, [2, 16])], [("y", FLOAT, [2, 4])], {"w": _random(4, 16, 4) / 4})


def several() -> onnx.ModelProto:
    """Three inputs and four outputs of several types; names that no file system or language would take."""
    nodes = [
        helper.make_node("Where", ["a mask/0", "x:0", "zero"], ["kept"]),
        helper.make_node("Mul", ["kept", "factor"], ["out/1"]),
        helper.make_node("ArgMax", ["out/1"], ["best"], axis=1, keepdims=0),
        helper.make_node("ReduceSum", ["out/1", "axes"], ["sum"], keepdims=0),
        helper.make_node("Not", ["a mask/0"], ["dropped"]),
    ]
    inputs = [("x:0", FLOAT, ["N", 6]), ("a mask/0", BOOL, ["N", 6]), ("factor", FLOAT, [])]
    outputs = [("best", INT64, ["N"]), ("out/1", FLOAT, ["N", 6]), ("sum", FLOAT, ["N"]), ("dropped", BOOL, ["N", 6])]
    return make(nodes, inputs, outputs, {"zero": np.float32(0).reshape(()), "axes": np.array([1])})


def quantized() -> onnx.ModelProto:
    """A convolution with Q/DQ around it, in the form that both engines fuse; weights small enough never to saturate."""
    weights = {
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "ws": np.full(8, 0.01, np.float32),
        "wz": np.zeros(8, np.int8),
        "w": np.random.default_rng(5).integers(-60, 61, (8, 3, 3, 3)).astype(np.int8),
        "b": np.random.default_rng(6).integers(-500, 500, 8).astype(np.int32),
        "bs": np.full(8, 0.0002, np.float32),
        "bz": np.zeros(8, np.int32),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "bd"], ["c"], "conv"),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return make(nodes, [("x", FLOAT, ["N", 3, 8, 8])], [("y", FLOAT, ["N", 8, 6, 6])], weights, opset=19)


def branches() -> onnx.ModelProto:
    """Control flow, with constants that an engine must name inside both branches."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        branches (float[N,4] x, bool c) => (float[N,4] y) {
          y = If (c) <
            then_branch = t () => (float[N,4] a) { k = Constant <value = float {2.0}> () m = Mul(x, k) a = Relu(m) },
            else_branch = e () => (float[N,4] b) { k = Constant <value = float {0.5}> () b = HardSwish(x) }>
        }"""
    return onnx.parser.parse_model(text)


def half(kind: int = FLOAT16) -> onnx.ModelProto:
    """``conv`` with 16-bit weights and arithmetic between float32 inputs and outputs."""
    proto = conv()
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, array.shape, array.tobytes(), raw=True))
    first, last = proto.graph.node[0], proto.graph.node[-1]
    first.input[0], last.output[0] = "image16", "scores16"
    proto.graph.node.insert(0, helper.make_node("Cast", ["image"], ["image16"], "in", to=kind))
    proto.graph.node.append(helper.make_node("Cast", ["scores16"], ["scores"], "out", to=FLOAT))
    return proto


def feeds(name: str, batch: int = 1) -> dict[str, Array]:
    """Inputs for the model ``name``; those with a free batch get ``batch`` samples."""
    generator = np.random.default_rng(7)
    if name == "gemm":
        return {"x": _random(8, 2, 16)}
    if name == "several":
        mask = generator.random((batch, 6)) > 0.5
        return {"x:0": _random(9, batch, 6), "a mask/0": mask, "factor": np.array(1.5, np.float32)}
    if name == "branches":
        return {"x": _random(10, batch, 4), "c": np.array(True)}
    if name == "quantized":
        return {"x": (_random(11, batch, 3, 8, 8) / 2)}
    return {"image": _random(12, batch, 3, 12, 12)}


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "conv": conv,
    "gemm": gemm,
    "several": several,
    "quantized": quantized,
    "branches": branches,
    "half": half,
}
