"""A model of drawn operators that grows: each is tried alone in ONNX Runtime, and left out where that refuses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]
FREE = "N"
_MOST_VALUES = 20_000


def plain_session(proto: bytes) -> Any:
    """Return a session of ONNX Runtime without optimizations, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])


@dataclass
class Maker:
    """A model that grows: ``values`` holds what every tensor is for an example, ``constants`` those that are fixed."""

    random: np.random.Generator
    opset: int
    values: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    newest: str = ""
    positive: bool = False

    def __repr__(self) -> str:
        return f"Maker({[node.op_type for node in self.nodes]})"

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, items: Sequence[Any]) -> Any:
        return items[int(self.random.integers(len(items)))]

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return int(self.random.integers(low, high + 1))

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def weights(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant(self.random.standard_normal(shape) / np.sqrt(fan_in))

    def find(self, kinds: str, rank: int | tuple[int, int] = (0, 9), *, like: str = "") -> str | None:
        """Return a tensor of a kind of dtype in ``kinds`` and of the rank, or like ``like``; often the newest."""
        least, most = (rank, rank) if isinstance(rank, int) else rank
        fitting = [
            name
            for name, value in self.values.items()
            if value.dtype.kind in kinds
            and least <= value.ndim <= most
            and value.size
            and (not like or (value.shape == self.values[like].shape and value.dtype == self.values[like].dtype))
        ]
        if self.newest in fitting and self.chance(0.8):
            return self.newest
        return self.pick(fitting) if fitting else None

    def add(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> bool:
        """Append a node if ONNX Runtime computes it; the tensor that is gone on with is one of its outputs."""
        domain = attributes.pop("domain", "")
        made = [f"t{len(self.nodes)}_{number}" for number in range(outputs)]
        node = helper.make_node(operator, inputs, made, f"{operator}_{len(self.nodes)}", domain=domain, **attributes)
        read = {name: self.values[name] for name in inputs if name in self.values}
        stored = {name: self.constants[name] for name in inputs if name in self.constants}
        graph = helper.make_graph(
            [node], "one", [value_info(name, array) for name, array in read.items()],
            [helper.make_empty_tensor_value_info(name) for name in made],
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )  # fmt: skip
        try:
            found = plain_session(model_of(graph, self.opset).SerializeToString()).run(made, read)
        except Exception:  # whatever ONNX Runtime raises for what it does not take
            return False
        if any(not isinstance(array, np.ndarray) or array.size > _MOST_VALUES or array.ndim > 6 for array in found):
            return False
        if any(array.dtype.kind == "f" and np.isnan(array).any() for array in found) and self.chance(0.95):
            return False  # a model that makes NaN of everything tells nothing else
        self.nodes.append(node)
        self.values.update(zip(made, found, strict=True))
        self.newest = made[0] if outputs == 1 or self.chance(0.6) else self.pick(made)
        return True


def value_info(name: str, array: Array, *, free: bool = False) -> onnx.ValueInfoProto:
    shape: list[int | str] = list(array.shape)
    if free:
        shape[0] = FREE
    return helper.make_tensor_value_info(name, type_of(array), shape)


def type_of(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def model_of(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


Draw = Callable[[Maker], bool]
OPERATORS: dict[str, Draw] = {}


def operator(*names: str) -> Callable[[Callable[[Maker, str], bool]], Callable[[Maker, str], bool]]:
    def register(draw: Callable[[Maker, str], bool]) -> Callable[[Maker, str], bool]:
        OPERATORS.update({name: lambda maker, name=name: draw(maker, name) for name in names})  # type: ignore[misc]
        return draw

    return register
