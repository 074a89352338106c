"""Random small convolutional graphs for property tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from onnx import helper
from quantize_models import save

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

STEPS = (
    "conv1", "conv3", "conv_nobias", "depthwise", "grouped", "relu", "clip", "leaky", "sigmoid", "silu",
    "hard_swish", "add", "mul", "concat", "maxpool", "avgpool", "transpose", "reshape", "resize", "pad", "shared",
)  # fmt: skip
TAILS = ("gemm", "gemm_transposed", "gemm_scaled", "matmul", "matmul_bias", "attention", "none")


class GraphMaker:
    """Appends operators to a graph; ``shapes`` holds every tensor's shape, [1, C, H, W] before the tail."""

    def __init__(self, random: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.random = random
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {"x": shape}
        self.newest = "x"

    def __repr__(self) -> str:
        return f"GraphMaker({[n.op_type for n in self.nodes]}, {self.shapes})"

    def add(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, inputs, [name], name=f"{operator}_{len(self.nodes)}", **attributes)
        )
        self.shapes[name] = shape
        self.newest = name

    def constant(self, values: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = values
        return name

    def weight(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:]))
        spread = self.random.uniform(0.3, 3.0, (shape[0], *[1] * (len(shape) - 1)))
        return self.constant((self.random.standard_normal(shape) * spread / np.sqrt(fan_in)).astype(np.float32))

    def bias(self, channels: int) -> str:
        return self.constant(self.random.normal(0, 0.3, channels).astype(np.float32))

    def conv(self, outputs: int, kernel: int, groups: int = 1, *, bias: bool = True) -> None:
        _, channels, height, width = self.shapes[self.newest]
        inputs = [self.newest, self.weight(outputs, channels // groups, kernel, kernel)]
        if bias:
            inputs.append(self.bias(outputs))
        pad = kernel // 2
        self.add("Conv", inputs, (1, outputs, height, width), group=groups, pads=[pad] * 4, kernel_shape=[kernel] * 2)

    def step(self, kind: str) -> None:
        """Append one operator where its shape allows it."""
        x, shape = self.newest, self.shapes[self.newest]
        _, channels, height, width = shape
        alike = [name for name, other in self.shapes.items() if other == shape and name != x]
        if kind in ("conv1", "conv3"):
            self.conv(int(self.random.integers(3, 20)), int(kind[-1]))
        elif kind == "conv_nobias":
            self.conv(8, 1, bias=False)
        elif kind == "depthwise":
            self.conv(channels, 3, channels)
        elif kind == "grouped" and channels % 2 == 0:
            self.conv(channels, 3, 2)
        elif kind == "relu":
            self.add("Relu", [x], shape)
        elif kind == "clip":
            low, high = (self.constant(np.float32(v)) for v in (0.0, 1.5))
            self.add("Clip", [x, low, high], shape)
        elif kind == "leaky":
            self.add("LeakyRelu", [x], shape, alpha=0.1)
        elif kind == "sigmoid":
            self.add("Sigmoid", [x], shape)
        elif kind == "silu":
            self.add("Sigmoid", [x], shape)
            self.add("Mul", [x, self.newest], shape)
        elif kind == "hard_swish":
            three, zero, six = (self.constant(np.float32(v)) for v in (3.0, 0.0, 6.0))
            self.add("Add", [x, three], shape)
            self.add("Clip", [self.newest, zero, six], shape)
            self.add("Mul", [x, self.newest], shape)
            self.add("Div", [self.newest, six], shape)
        elif kind in ("add", "mul") and alike:
            self.add(kind.capitalize(), [x, alike[-1]], shape)
        elif kind == "concat":
            others = [name for name, o in self.shapes.items() if o[2:] == shape[2:] and name != x]
            if others:
                self.add("Concat", [x, others[0]], (1, channels + self.shapes[others[0]][1], height, width), axis=1)
        elif kind in ("maxpool", "avgpool") and min(height, width) >= 4:
            operator = {"maxpool": "MaxPool", "avgpool": "AveragePool"}[kind]
            smaller = (1, channels, height // 2, width // 2)
            self.add(operator, [x], smaller, kernel_shape=[2, 2], strides=[2, 2])
        elif kind == "transpose":
            self.add("Transpose", [x], (1, channels, width, height), perm=[0, 1, 3, 2])
        elif kind == "reshape" and channels % 2 == 0:
            target = self.constant(np.array([1, channels // 2, height * 2, width], np.int64))
            self.add("Reshape", [x, target], (1, channels // 2, height * 2, width))
        elif kind == "resize" and height * width <= 64:
            scales = self.constant(np.array([1, 1, 2, 2], np.float32))
            mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            self.add("Resize", [x, "", scales], (1, channels, height * 2, width * 2), **mode)
        elif kind == "pad":
            pads = self.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
            self.add("Pad", [x, pads], (1, channels, height + 1, width + 1))
        elif kind == "shared" and channels == 4:
            self.constants.setdefault("shared", self.random.standard_normal((4, 4, 1, 1)).astype(np.float32) / 2)
            self.add("Conv", [x, "shared"], shape)

    def tail(self, kind: str) -> None:
        """End the graph: pooled to [1, C], then one of the matrix products."""
        if kind == "none":
            return
        _, channels, height, width = self.shapes[self.newest]
        if kind == "attention":
            length = height * width
            flat = self.constant(np.array([1, channels, length], np.int64))
            self.add("Reshape", [self.newest, flat], (1, channels, length))
            rows = self.newest
            self.add("Transpose", [rows], (1, length, channels), perm=[0, 2, 1])
            self.add("MatMul", [rows, self.newest], (1, channels, channels))
            return
        self.add("GlobalAveragePool", [self.newest], (1, channels, 1, 1))
        self.add("Flatten", [self.newest], (1, channels))
        if kind == "gemm":
            self.add("Gemm", [self.newest, self.weight(channels, 5), self.bias(5)], (1, 5))
        elif kind == "gemm_transposed":
            self.add("Gemm", [self.newest, self.weight(5, channels), self.bias(5)], (1, 5), transB=1)
        elif kind == "gemm_scaled":
            inputs = [self.newest, self.weight(channels, 5), self.constant(np.float32([[0.3]]))]
            self.add("Gemm", inputs, (1, 5), alpha=0.5, beta=2.0)
        else:
            self.add("MatMul", [self.newest, self.weight(channels, 5)], (1, 5))
            if kind == "matmul_bias":
                self.add("Add", [self.newest, self.bias(5)], (1, 5))

    def save(self, out: Path) -> OnnxModel:
        return save(self.nodes, self.constants, out, inputs={"x": self.shapes["x"]}, outputs=(self.newest,))


@st.composite
def graphs(draw: st.DrawFn) -> GraphMaker:
    """Draw a graph that begins with a convolution."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maker = GraphMaker(random, (1, draw(st.sampled_from([1, 3, 8])), 8, draw(st.sampled_from([6, 8]))))
    maker.conv(draw(st.sampled_from([4, 8, 17])), draw(st.sampled_from([1, 3])))
    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9)):
        maker.step(kind)
    maker.tail(draw(st.sampled_from(TAILS)))
    return maker
