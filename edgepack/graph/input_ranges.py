"""What a model's whole-number inputs mean: indices of a table, sizes, masks, lengths, pixels; and what may be drawn."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgepack.graph.load import read_proto
from edgepack.graph.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import onnx

    from edgepack.specs.model import OnnxModel, TensorSpec
    from edgepack.specs.types import Array

Meaning: TypeAlias = Literal["number", "index", "size", "mask", "length"]
# Operators through which a whole number keeps its meaning, by their first input.
_THROUGH = frozenset(
    {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile", "Slice", "Split"}
)
# Which input of an operator is an index, and into which of its inputs.
_INDICES = {"Gather": 0, "GatherElements": 0, "GatherND": 0, "ScatterElements": 0, "ScatterND": 0}
# Which inputs of an operator are sizes or positions: large ones would ask for memory that nobody has.
_SIZES = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "ConstantOfShape": (0,), "Range": (0, 1, 2), "TopK": (1,),
    "Pad": (1,), "Slice": (1, 2, 3, 4), "Resize": (3,), "Split": (1,), "Loop": (0,), "OneHot": (1,), "Trilu": (1,),
}  # fmt: skip
_LARGEST = 99  # of a number that nothing is known of
_WHOLE_RANGE = ("int8", "uint8", "int16", "uint16")  # pixels, sound, quantized values: every value means something
_MASK = re.compile(r"mask", re.IGNORECASE)
_LENGTH = re.compile(r"(^|[._/])(len|length|lengths|lens|seq_?len(gth)?s?)$|_(len|length|lengths|lens)$", re.IGNORECASE)


@dataclass(frozen=True)
class InputRange:
    """What one whole-number input means, and the values from ``low`` to ``high`` that it may have."""

    meaning: Meaning
    low: int
    high: int

    @property
    def words(self) -> str:
        """Return what is drawn, in words."""
        shown = f"{self.low} to {self.high}"
        return {
            "number": shown,
            "index": f"{shown}, the rows of its table",
            "size": f"{self.low}, as it is a size",
            "mask": "1 and then 0, as it is a mask",
            "length": f"{shown}, as it is a length",
        }[self.meaning]


def input_ranges(model: OnnxModel) -> Mapping[str, InputRange]:
    """Return the range of every input of whole numbers or truth values, as the graph uses it."""
    return ranges_in(read_proto(model, weights=False), model.inputs)


def ranges_in(proto: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> Mapping[str, InputRange]:
    """Return the same of a graph that is read already."""
    uses = _Uses(proto)
    return {spec.name: _range(spec, inputs, uses) for spec in inputs if is_whole(spec)}


def narrower(ranges: Mapping[str, InputRange]) -> Iterator[Mapping[str, InputRange]]:
    """Yield the ranges, then what a model may take that refuses these: without negative numbers; none, for 0 and 1."""
    yield ranges
    if any(found.meaning == "number" and found.low < 0 for found in ranges.values()):
        yield {n: dataclasses.replace(r, low=max(r.low, 0)) if r.high == _LARGEST else r for n, r in ranges.items()}
    if ranges:
        yield {}


def is_whole(spec: TensorSpec) -> bool:
    """Say whether an input is of whole numbers or truth values."""
    return spec.dtype.startswith(("int", "uint", "bool"))


def plain_range(spec: TensorSpec) -> InputRange:
    """Return what may be drawn for an input whose model is not known."""
    import numpy as np

    if spec.dtype in _WHOLE_RANGE:
        limits = np.iinfo(spec.dtype)
        return InputRange("number", int(limits.min), int(limits.max))
    return InputRange("number", 0, 1)


def draw(found: InputRange, spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return random values of an input in its dtype: a mask begins with ones, of which there is one at least."""
    import numpy as np

    if found.meaning != "mask" or not shape:
        result: Array = generator.integers(found.low, found.high, shape, np.int64, endpoint=True).astype(spec.dtype)
        return result
    ones = generator.integers(1, shape[-1], (*shape[:-1], 1), endpoint=True)
    return np.broadcast_to(np.arange(shape[-1]) < ones, shape).astype(spec.dtype)


def _range(spec: TensorSpec, inputs: tuple[TensorSpec, ...], uses: _Uses) -> InputRange:
    rows, is_size = uses.of(spec.name)
    if spec.dtype in _WHOLE_RANGE and rows is None and not is_size:
        return plain_range(spec)
    if is_size:
        return InputRange("size", 1, 1)
    if rows is not None:
        return InputRange("index", 0, max(rows - 1, 0))
    if spec.dtype == "bool" or _MASK.search(spec.name):
        return InputRange("mask" if _MASK.search(spec.name) else "number", 0, 1)
    if _LENGTH.search(spec.name):
        extents = [extent for other in inputs for extent in other.shape[1:] if isinstance(extent, int)]
        return InputRange("length", 1, max(extents, default=1))
    return InputRange("number", 0 if spec.dtype.startswith("uint") else -_LARGEST, _LARGEST)


class _Uses:
    """Follows a tensor to where its numbers are indices or sizes."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in all_nodes(proto):
            for place, name in enumerate(node.input):
                self._readers.setdefault(name, []).append((node, place))
        self._stored = {t.name: t for graph in all_graphs(proto.graph) for t in graph.initializer}
        self._shapes = {name: tuple(tensor.dims) for name, tensor in self._stored.items()}
        for value in (*proto.graph.input, *proto.graph.value_info):
            dims = value.type.tensor_type.shape.dim
            self._shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
        self._producers = {name: node for node in all_nodes(proto) for name in node.output if name}

    def of(self, name: str) -> tuple[int | None, bool]:
        """Return the rows of the smallest table that a tensor's numbers are indices of, and whether they are sizes."""
        rows, is_size = None, False
        for node, place in self._reached(name):
            if node.op_type in _INDICES and place == 1:
                found = self._rows(node)
                rows = found if rows is None else min(rows, found)
            elif node.op_type == "OneHot" and place == 0:
                found = self._depth(node)
                rows = found if rows is None else min(rows, found)
            is_size |= place in _SIZES.get(node.op_type, ())
        return rows, is_size

    def _reached(self, name: str) -> Iterator[tuple[onnx.NodeProto, int]]:
        waiting, seen = [name], {name}
        while waiting:
            for node, place in self._readers.get(waiting.pop(), ()):
                yield node, place
                if node.op_type in _THROUGH and place == 0:
                    new = [output for output in node.output if output not in seen]
                    seen.update(new)
                    waiting += new

    def _rows(self, node: onnx.NodeProto) -> int:
        """Return how many rows the table of an indexing node has; 1 where that is not known, which is always right."""
        table = node.input[0]
        while table not in self._shapes and table in self._producers and len(self._producers[table].input):
            producer = self._producers[table]
            if producer.op_type not in ("DequantizeLinear", "Cast", "Identity"):
                break
            table = producer.input[0]
        shape = self._shapes.get(table, ())
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return shape[axis] if -len(shape) <= axis < len(shape) and shape[axis] > 0 else 1

    def _depth(self, node: onnx.NodeProto) -> int:
        """Return how many classes OneHot tells apart; 1 where that is not stored."""
        import onnx.numpy_helper

        name = node.input[1]
        producer = self._producers.get(name)
        values = (a.t for a in producer.attribute if a.name == "value") if producer is not None else ()
        tensor = self._stored.get(name) or next(iter(values), None)
        return int(onnx.numpy_helper.to_array(tensor).reshape(-1)[0]) if tensor is not None else 1
