"""Small ONNX models of sentences, sounds and rows, whose answers are known."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(path: Path, nodes, inputs, outputs, weights) -> Path:
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def linear(path: Path, weight: np.ndarray, bias: np.ndarray, shape=None) -> Path:
    """x [N, ...] flattened times a weight [features, outputs], and a bias."""
    shape = shape or ("N", len(weight))
    flat = [("Flatten", ["x"], ["f"]), ("MatMul", ["f", "w"], ["m"]), ("Add", ["m", "b"], ["y"])]
    weights = {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}
    return save(path, flat, [("x", TensorProto.FLOAT, shape)], [("y", ("N", weight.shape[1]))], weights)


def embedder(path: Path, table: np.ndarray, weight: np.ndarray) -> Path:
    """input_ids, attention_mask [N, L] -> tokens [N, L, size]: rows of a table times a weight."""
    nodes = [
        ("Gather", ["table", "input_ids"], ["g"]),
        ("Cast", ["attention_mask"], ["c"], {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["c", "last"], ["u"]),
        ("Mul", ["g", "u"], ["k"]),
        ("MatMul", ["k", "w"], ["tokens"]),
    ]
    ids = [(name, TensorProto.INT64, ("N", "L")) for name in ("input_ids", "attention_mask")]
    weights = {"table": table.astype(np.float32), "w": weight.astype(np.float32), "last": np.array([-1])}
    return save(path, nodes, ids, [("tokens", ("N", "L", weight.shape[1]))], weights)


def classifier(path: Path, table: np.ndarray, weight: np.ndarray) -> Path:
    """input_ids, attention_mask [N, L] -> scores [N, classes]: the sum over the rows of a table, times a weight."""
    nodes = [
        ("Gather", ["table", "input_ids"], ["g"]),
        ("Cast", ["attention_mask"], ["c"], {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["c", "last"], ["u"]),
        ("Mul", ["g", "u"], ["k"]),
        ("ReduceSum", ["k", "middle"], ["s"], {"keepdims": 0}),
        ("MatMul", ["s", "w"], ["scores"]),
    ]
    ids = [(name, TensorProto.INT64, ("N", "L")) for name in ("input_ids", "attention_mask")]
    weights = {
        "table": table.astype(np.float32), "w": weight.astype(np.float32), "last": np.array([-1]),
        "middle": np.array([1]),
    }  # fmt: skip
    return save(path, nodes, ids, [("scores", ("N", weight.shape[1]))], weights)


def listener(path: Path) -> Path:
    """input [B, n], state [2, B, 4], sr -> speech [B, 1], next: loudness, smoothed by what the state remembers."""
    nodes = [
        ("Abs", ["input"], ["a"]),
        ("ReduceMean", ["a"], ["level"], {"axes": [1], "keepdims": 1}),
        ("Slice", ["state", "zero", "one", "axis"], ["first"]),
        ("ReduceMean", ["first"], ["before"], {"axes": [0, 2], "keepdims": 0}),
        ("Unsqueeze", ["before", "one"], ["kept"]),
        ("Add", ["level", "kept"], ["sum"]),
        ("Mul", ["sum", "half"], ["smooth"]),
        ("Mul", ["smooth", "gain"], ["scaled"]),
        ("Clip", ["scaled", "low", "high"], ["speech"]),
        ("Unsqueeze", ["smooth", "zero"], ["again"]),
        ("Expand", ["again", "shape"], ["next"]),
    ]
    inputs = [
        ("input", TensorProto.FLOAT, ("B", "n")), ("state", TensorProto.FLOAT, (2, "B", 4)),
        ("sr", TensorProto.INT64, ()),
    ]  # fmt: skip
    weights = {
        "zero": np.array([0]), "one": np.array([1]), "axis": np.array([0]), "half": np.float32(0.5),
        "gain": np.float32(10), "low": np.float32(0), "high": np.float32(1), "shape": np.array([2, 1, 4]),
    }  # fmt: skip
    return save(path, nodes, inputs, [("speech", ("B", 1)), ("next", (2, "B", 4))], weights)


def reader(path: Path, levels: list[float], letters: str) -> Path:
    """x [N, 3, 8, W] -> scores [N, W, classes]: how near the grey of each column is to each level; it notes letters."""
    nodes = [
        ("ReduceMean", ["x"], ["grey"], {"axes": [1, 2], "keepdims": 0}),
        ("Unsqueeze", ["grey", "last"], ["column"]),
        ("MatMul", ["column", "w"], ["m"]),
        ("Add", ["m", "b"], ["scores"]),
    ]
    greys = np.array(levels, np.float32)
    weights = {"last": np.array([-1]), "w": 400 * greys[None], "b": -200 * greys**2}
    shape, out = ("N", 3, 8, "W"), ("N", "W", len(levels))
    save(path, nodes, [("x", TensorProto.FLOAT, shape)], [("scores", out)], weights)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"character": letters})
    onnx.save(model, path)
    return path
