"""Rewrites an fp32 graph so that chosen nodes compute in fp16 or bf16, with explicit casts: strongly typed.

Every float32 tensor ``x`` may exist twice: as ``x`` and, in the low precision, as ``x.fp16`` or ``x.bf16``. A node
takes the version that it computes in; the first who needs the other version gets a Cast. So graph inputs and outputs,
and what control flow captures by name, stay float32 under their own names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from edgepack.graph.save import without_initializers
from edgepack.graph.walk import all_graphs, has_bodies, names_read_inside

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx

    from edgepack.specs.types import Array

Low: TypeAlias = Literal["fp16", "bf16"]

_FLOAT = 1  # onnx.TensorProto.FLOAT
_TYPES = {"fp16": (10, "tensor(float16)"), "bf16": (16, "tensor(bfloat16)")}
# What a value is, not what is computed: a Cast's own type is stated by its attribute, a Q/DQ pair has its scale's.
_STORAGE = frozenset({"Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
# These read no values, so they take whichever version is there.
_SHAPE_ONLY = frozenset({"Shape", "Size"})


def lowerable(proto: onnx.ModelProto, precision: Low) -> dict[str, str]:
    """Return, by node name, why a node of the main graph that computes floats must stay in fp32; "" when it need not.

    Nodes that compute no floats are absent. ``proto`` must have shapes and types inferred, and named nodes.
    """
    types = tensor_types(proto)
    opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    return {
        node.name: _obstacle(node, types, opset, precision)
        for node in proto.graph.node
        if node.op_type not in _STORAGE
        and any(types.get(name, _FLOAT) == _FLOAT for name in node.output if name)
        and any(types.get(name) == _FLOAT for name in node.input)
    }


def lower(proto: onnx.ModelProto, nodes: frozenset[str], precision: Low, *, simulate: bool = False) -> onnx.ModelProto:
    """Return ``proto`` with ``nodes`` (names from ``lowerable``) computing in ``precision``.

    With ``simulate`` the graph stays float32 and every low value is only rounded (Cast there and back): any engine
    can run it, and it shows what the rounding costs where sums are accumulated in fp32.
    """
    return _Lowering(proto, nodes, precision, simulate).result()


def tensor_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the element types of the main graph's tensors by name, as far as they are stated."""
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        if value.type.HasField("tensor_type"):
            types[value.name] = value.type.tensor_type.elem_type
    return types


def low_slots(node: onnx.NodeProto, types: Mapping[str, int], opset: int, precision: Low) -> tuple[set[int], set[int]]:
    """Return which inputs and outputs of ``node`` are in the low precision when it computes in it.

    The operator's type constraints decide (onnx.defs): a Resize's scales, for one, are always float32.
    """
    import onnx

    schema = onnx.defs.get_schema(node.op_type, opset, "")
    allowed = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    name = _TYPES[precision][1]
    inputs, variables = set(), set()
    for index, tensor in enumerate(node.input):
        variable = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
        if types.get(tensor) == _FLOAT and name in allowed.get(variable, ()):
            inputs.add(index)
            variables.add(variable)
    outputs = set()
    for index, tensor in enumerate(node.output):
        variable = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
        if tensor and types.get(tensor, _FLOAT) == _FLOAT and variable in variables:
            outputs.add(index)
    return inputs, outputs


def round_array(array: Array, precision: Low) -> Array:
    """Return ``array`` rounded to the nearest number of the low precision, in that type."""
    import numpy as np

    with np.errstate(over="ignore"):
        return array.astype(_numpy_type(precision))


def _obstacle(node: onnx.NodeProto, types: Mapping[str, int], opset: int, precision: Low) -> str:
    import onnx

    if has_bodies(node):
        return "control flow"
    if node.domain not in ("", "ai.onnx"):
        return "not a standard operator"
    if any(name and name not in types for name in node.output):
        return "the type of its output is not known"
    try:
        inputs, outputs = low_slots(node, types, opset, precision)
    except onnx.defs.SchemaError:
        return "unknown operator"
    first = next(index for index, name in enumerate(node.input) if types.get(name) == _FLOAT)
    return "" if first in inputs and outputs else f"ONNX has no {precision} form of {node.op_type}"


class _Lowering:
    """Builds the new list of nodes in one pass over the old one."""

    def __init__(self, proto: onnx.ModelProto, nodes: frozenset[str], precision: Low, simulate: bool) -> None:
        self.proto = without_initializers(proto)
        self.chosen, self.precision, self.simulate = nodes, precision, simulate
        self.types = tensor_types(proto)
        self.opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
        self.stored = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.taken = {name for graph in all_graphs(proto.graph) for node in graph.node for name in node.output}
        self.taken |= set(self.types) | {node.name for node in proto.graph.node}
        self.low: dict[str, str] = {}  # tensor -> name of its low version, where there is one
        self.only_low: set[str] = set()  # tensors that have no float32 version yet
        self.nodes: list[onnx.NodeProto] = []

    def result(self) -> onnx.ModelProto:
        for node in self.proto.graph.node:
            if node.name in self.chosen:
                self._add_low(node)
            else:
                self._add_float(node)
        for value in self.proto.graph.output:
            self._need_float(value.name)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(self.nodes)
        read = {name for graph in all_graphs(self.proto.graph) for node in graph.node for name in node.input}
        read |= {value.name for graph in all_graphs(self.proto.graph) for value in graph.output}
        self.proto.graph.initializer.extend(t for name, t in self.stored.items() if name in read)
        del self.proto.graph.value_info[:]
        return self.proto

    def _add_low(self, node: onnx.NodeProto) -> None:
        inputs, outputs = low_slots(node, self.types, self.opset, self.precision)
        for index, name in enumerate(node.input):
            if index in inputs:
                node.input[index] = self._need_low(name)
            else:
                self._need_float(name)
        rounded = []
        for index in sorted(outputs):
            name = node.output[index]
            self.low[name] = self._free(name)
            self.only_low.add(name)
            node.output[index] = self.low[name] if not self.simulate else self._free(f"{name}.exact")
            rounded.append((node.output[index], self.low[name]))
        self.nodes.append(node)
        if self.simulate:
            for exact, low in rounded:
                self._round(exact, low)

    def _add_float(self, node: onnx.NodeProto) -> None:
        if node.op_type in _SHAPE_ONLY and node.input[0] in self.only_low:
            node.input[0] = self.low[node.input[0]]
        for name in (*node.input, *names_read_inside(node)):
            self._need_float(name)
        self.nodes.append(node)

    def _need_low(self, name: str) -> str:
        if name not in self.low:
            self.low[name] = self._free(name)
            if name in self.stored:
                self._store_low(name)
            elif self.simulate:
                self._round(name, self.low[name])
            else:
                self._cast(name, self.low[name], _TYPES[self.precision][0])
        return self.low[name]

    def _need_float(self, name: str) -> None:
        if name in self.only_low:
            self.only_low.remove(name)
            self._cast(self.low[name], name, _FLOAT)

    def _store_low(self, name: str) -> None:
        import onnx

        array = round_array(onnx.numpy_helper.to_array(self.stored[name]), self.precision)
        if self.simulate:
            array = array.astype("float32")
        self.proto.graph.initializer.append(onnx.numpy_helper.from_array(array, self.low[name]))

    def _round(self, name: str, target: str) -> None:
        middle = self._free(f"{target}.rounded")
        self._cast(name, middle, _TYPES[self.precision][0])
        self._cast(middle, target, _FLOAT)

    def _cast(self, name: str, target: str, kind: int) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node("Cast", [name], [target], name=self._free(f"Cast_{target}"), to=kind))

    def _free(self, name: str) -> str:
        """Return a name that nothing has: the low version's for a tensor's name."""
        name = f"{name}.{self.precision}" if name in self.types else name
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


def _numpy_type(precision: Low) -> np.dtype[np.generic]:
    import ml_dtypes
    import numpy as np

    return np.dtype(np.float16 if precision == "fp16" else ml_dtypes.bfloat16)
