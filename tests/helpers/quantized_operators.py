"""One model of many operators that are drawn, each for itself between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from operator_maker import OPERATORS, Array, Feeds, Maker, model_of, value_info
from operator_models import _SHAPES, floats

_OPSET = 21
_TRIES = 40
# Which sides of an operator are quantized: engines fuse with what is before, and with what is behind.
SIDES = ("behind", "before", "both")


@dataclass
class Quantized:
    """The model's parts, inputs to run it on, and of each output its operator and the step that it is told apart by."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    feeds: Feeds = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)

    def proto(self) -> onnx.ModelProto:
        """Return the model, with shapes inferred."""
        graph = helper.make_graph(
            self.nodes, "quantized", [value_info(name, array) for name, array in self.feeds.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.steps],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )  # fmt: skip
        return onnx.shape_inference.infer_shapes(model_of(graph, _OPSET))

    def add(self, name: str, side: str, positive: bool) -> None:
        """Add one operator with its inputs; where none is drawn that reads and makes floats, nothing."""
        maker = _drawn(name, SIDES.index(side), positive)
        if maker is None:
            return
        stem, node = f"{name}_{side}_", maker.nodes[0]
        made = node.output[0]
        values = maker.values[made]
        for place, read in enumerate(node.input):
            if read in maker.constants:
                self.constants[stem + read] = maker.constants[read]
                node.input[place] = stem + read
            elif read:
                self.feeds[stem + read] = maker.values[read]
                node.input[place] = stem + read if side == "behind" else self._pair(stem + read, maker.values[read])
        for place, output in enumerate(node.output):
            node.output[place] = stem + output
        node.name = stem
        self.nodes.append(node)
        self.steps[stem + made if side == "before" else self._pair(stem + made, values)] = _affine(values)[0].item()

    def _pair(self, tensor: str, values: Array) -> str:
        """Quantize and dequantize a tensor; return the name of the result, which is written once."""
        rough = f"{tensor}_rough"
        if f"{tensor}_scale" not in self.constants:
            self.constants[f"{tensor}_scale"], self.constants[f"{tensor}_zero"] = _affine(values)
            parameters = [f"{tensor}_scale", f"{tensor}_zero"]
            integers = f"{tensor}_integers"
            self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [integers], integers))
            self.nodes.append(helper.make_node("DequantizeLinear", [integers, *parameters], [rough], rough))
        return rough


def joined(names: Sequence[str]) -> Quantized:
    """Return a model of all operators ``names``, quantized before, behind and on both sides."""
    found = Quantized()
    for place, name in enumerate(names):
        for side in SIDES:
            found.add(name, side, positive=(place + SIDES.index(side)) % 2 == 0)
    return found


def _drawn(name: str, seed: int, positive: bool) -> Maker | None:
    """Return an operator alone that reads and makes finite floats, if there is one."""
    for attempt in range(_TRIES):
        random = np.random.default_rng([seed, attempt, *name.encode()])
        maker = Maker(random, _OPSET)
        maker.values["x"] = floats(random, maker.pick(_SHAPES), positive=positive)
        maker.newest = "x"
        if not OPERATORS[name](maker) or len(maker.nodes) != 1:
            continue
        node = maker.nodes[0]
        values: list[Any] = [maker.values[read] for read in (*node.input, node.output[0]) if read in maker.values]
        if len(values) > 1 and all(v.dtype == np.float32 and v.size > 1 and np.isfinite(v).all() for v in values):
            return maker
    return None


def _affine(values: Array) -> tuple[Array, Array]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = max((high - low) / 255, 1e-6)
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)
