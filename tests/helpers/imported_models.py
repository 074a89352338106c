"""Small networks that come quantized: by ONNX Runtime's own quantizers, and written as other tools write them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SHAPE = (3, 12, 12)
FORMATS = ("QDQ", "QOperator")
TYPES = ("u8s8", "s8s8", "u8u8")


def pictures(count: int = 8, seed: int = 1) -> np.ndarray:
    """Return samples of the network's input."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def float_network(seed: int = 0) -> onnx.ModelProto:
    """Return convolutions, a residual sum, pools and a product, with Relus between, and a batch that is free."""
    random = np.random.default_rng(seed)

    def normal(name: str, *shape: int) -> onnx.TensorProto:
        fan_in = int(np.prod(shape[1:])) or 1
        return numpy_helper.from_array((random.normal(size=shape) / fan_in**0.5).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["m1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m1", "w2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "m1"], ["a"], name="sum"),
        helper.make_node("Relu", ["a"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="scores", transB=1),
    ]
    weights = [normal("w1", 8, 3, 3, 3), normal("w2", 8, 8, 3, 3), normal("w3", 5, 8)]
    biases = [normal("b1", 8), normal("b2", 8), normal("b3", 5)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *SHAPE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "g", [x], [y], [*weights, *biases])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Reader:
    def __init__(self) -> None:
        self.left = iter(pictures(8, seed=2))

    def get_next(self) -> dict[str, np.ndarray] | None:
        found = next(self.left, None)
        return None if found is None else {"x": found[None]}


def by_onnxruntime(folder: Path, form: str, types: str, **extra: Any) -> onnx.ModelProto:
    """Return the network as quantize_static makes it; ``types`` are those of activations and weights."""
    from onnxruntime import quantization as q

    kinds = {"u8": q.QuantType.QUInt8, "s8": q.QuantType.QInt8}
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(float_network(), folder / "float.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        q.quantize_static(
            folder / "float.onnx", folder / "made.onnx", _Reader(), quant_format=q.QuantFormat[form],
            activation_type=kinds[types[:2]], weight_type=kinds[types[2:]], per_channel=types[2:] == "s8",
            extra_options=extra,
        )  # fmt: skip
    return onnx.load(folder / "made.onnx")


def dynamic(folder: Path) -> onnx.ModelProto:
    """Return the network as quantize_dynamic makes it."""
    from onnxruntime import quantization as q

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(float_network(), folder / "float.onnx")
    q.quantize_dynamic(folder / "float.onnx", folder / "made.onnx", weight_type=q.QuantType.QUInt8)
    return onnx.load(folder / "made.onnx")


def with_clips(proto: onnx.ModelProto, low: int, high: int, kind: str = "int8") -> onnx.ModelProto:
    """Return a Q/DQ graph with a Clip behind every QuantizeLinear, as Brevitas writes QCDQ."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    bounds = [numpy_helper.from_array(np.asarray(v, kind), n) for n, v in (("low", low), ("high", high))]
    changed.graph.initializer.extend(bounds)
    nodes = []
    for node in changed.graph.node:
        nodes.append(node)
        if node.op_type == "QuantizeLinear":
            whole = node.output[0]
            node.output[0] = f"{whole}_all"
            nodes.append(helper.make_node("Clip", [f"{whole}_all", "low", "high"], [whole], name=f"{whole}_clip"))
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], *, optimize: bool = False) -> list[np.ndarray]:
    """Return what ONNX Runtime computes, operator by operator unless ``optimize``."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), _options(optimize), ["CPUExecutionProvider"])
    return session.run(None, feeds)  # type: ignore[no-any-return]


def operators(proto: onnx.ModelProto) -> list[str]:
    """Return the operators of a graph in their order."""
    return [node.op_type for node in proto.graph.node]


def executed(proto: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime makes of a graph."""
    options = _options(optimize=True)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


def _options(optimize: bool) -> onnxruntime.SessionOptions:
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return options


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the SQNR in dB; infinite where nothing differs."""
    noise = float(np.square(expected - found).sum())
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(expected).sum() / noise))
