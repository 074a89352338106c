"""Models for measuring, made in code: speed and memory do not depend on trained weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def resnet20(path: Path) -> Path:
    """Write a ResNet20 for 32 by 32 pictures (He et al. 2016, section 4.2; batch norms folded) with random weights."""
    generator = np.random.default_rng(0)
    nodes, weights = [], []

    def conv(source: str, name: str, inputs: int, outputs: int, size: int, stride: int) -> str:
        scale = np.sqrt(2 / (inputs * size * size))
        kernel = generator.normal(0, scale, (outputs, inputs, size, size)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{name}.weight"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"{name}.bias"))
        pad = size // 2
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}.weight", f"{name}.bias"], [name], name=name,
                kernel_shape=[size, size], strides=[stride, stride], pads=[pad, pad, pad, pad],
            )
        )  # fmt: skip
        return name

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"], name=f"{source}.relu"))
        return f"{source}.relu"

    last, channels = relu(conv("input", "stem", 3, 16, 3, 1)), 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            name, stride = f"block{stage}{block}", 2 if stage and not block else 1
            first = relu(conv(last, f"{name}.a", channels, width, 3, stride))
            second = conv(first, f"{name}.b", width, width, 3, 1)
            short = last if channels == width else conv(last, f"{name}.short", channels, width, 1, stride)
            nodes.append(helper.make_node("Add", [second, short], [f"{name}.add"], name=f"{name}.add"))
            last, channels = relu(f"{name}.add"), width
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    weights.append(numpy_helper.from_array(generator.normal(0, 0.1, (64, 10)).astype(np.float32), "head.weight"))
    weights.append(numpy_helper.from_array(np.zeros(10, np.float32), "head.bias"))
    nodes.append(helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["output"], name="head"))
    return _save(path, nodes, weights, ["N", 3, 32, 32], ["N", 10])


def gigabyte(path: Path, layers: int = 16, width: int = 4096) -> Path:
    """Write a chain of ``layers`` square MatMuls of ``width``, by default 1.07 GB of float32, with external data."""
    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for i in range(layers):
        matrix = generator.standard_normal((width, width), dtype=np.float32) / np.sqrt(width, dtype=np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{i}"))
        out = "output" if i == layers - 1 else f"x{i}"
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [out], name=f"matmul{i}"))
        last = out
    return _save(path, nodes, weights, ["N", width], ["N", width], external=True)


def _save(path: Path, nodes: list, weights: list, given: list, made: list, *, external: bool = False) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, made)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=external, location=f"{path.stem}.data")
    return path
