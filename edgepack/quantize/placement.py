"""Decides which nodes run in int8 and which tensors get Q/DQ, by what the target's engine fuses."""

from __future__ import annotations

import dataclasses
import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack.engines.int8 import COMPUTES, MOVES, WEIGHTED, EngineTable
from edgepack.errors import ModelError
from edgepack.quantize.flat_ends import FlatEnds
from edgepack.quantize.graph.index import GraphIndex, Node, attribute
from edgepack.quantize.rules import FIXED_RANGES
from edgepack.quantize.scales import ActivationScale, activation_scale, bounded_range, join_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.data import Ranges, TensorRange
    from edgepack.specs.target import QuantizationRules

_FLOAT32 = 1  # TensorProto.FLOAT of onnx.proto
# Operators with weights that stay in float everywhere.
_NEVER = frozenset({"Einsum", "GRU", "LSTM", "RNN"})
_CLASSICAL = "ai.onnx.ml"
_SHOWN = 5
# Tensors that are put together share a scale when none of them becomes coarser than this by it.
_SIMILAR = 1.25


@dataclass(frozen=True)
class Layer:
    """A node with constant weights that runs in int8.

    ``data`` is its activation input. ``axis`` is the weight's axis of output channels, None when the engine takes one
    scale only. ``groups`` and ``bias`` are as in ONNX; ``bias`` is None when there is none. ``alpha`` and ``beta``
    (Gemm) are multiplied into weight and bias. ``transposed``: a Gemm's weights are [outputs, inputs].
    """

    node: int
    name: str
    operator: str
    data: str
    weight: str
    axis: int | None
    bias: str | None = None
    groups: int = 1
    alpha: float = 1.0
    beta: float = 1.0
    transposed: bool = False


@dataclass(frozen=True)
class Placement:
    """What is quantized.

    ``scales``: of each tensor that gets Q/DQ. ``inputs``: of each layer's activation input, by the layer's name.
    ``kept_float``: those made by a float node, so that float users keep the float tensor. ``left``: reason why a node
    with weights stays in float. ``read``: the tensors whose ranges decided; of others only that they have one.
    """

    layers: tuple[Layer, ...]
    nodes: frozenset[int]
    scales: Mapping[str, ActivationScale]
    inputs: Mapping[str, ActivationScale]
    kept_float: frozenset[str]
    left: Mapping[str, str] = field(default_factory=dict)
    read: frozenset[str] = frozenset()


def place(index: GraphIndex, ranges: Ranges, rules: QuantizationRules, table: EngineTable) -> Placement:
    """Return the placement of Q/DQ in the graph behind ``index`` for the engine described by ``table``."""
    return _Placer(index, ranges, rules, table).place()


def check_placement(placement: Placement, index: GraphIndex) -> None:
    """Raise ``ModelError`` that says why when nothing at all is quantized."""
    if placement.nodes:
        return
    if not placement.left:
        has = sorted({node.op_type for node in index.nodes})
        more = f" and {len(has) - _SHOWN} more" if len(has) > _SHOWN else ""
        kind = "classical machine learning" if any(n.domain == _CLASSICAL for n in index.nodes) else "a model"
        raise ModelError(
            f"this is {kind} without products to compute in int8: it consists of {', '.join(has[:_SHOWN])}{more}",
            hint=f"build it with --precision fp32; int8 speeds up {', '.join(sorted(WEIGHTED))}",
        )
    reasons = [f"{name}: {reason}" for name, reason in sorted(placement.left.items())]
    shown = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    raise ModelError(
        "nothing in this model can run in int8: " + shown,
        hint="build it with --precision fp32 or fp16, or change the target's [quantization]",
    )


class _Placer:
    """The state of one placement; lives for one call."""

    def __init__(self, index: GraphIndex, ranges: Ranges, rules: QuantizationRules, table: EngineTable) -> None:
        self.index = index
        self.ranges = ranges.tensors
        self.rules = rules
        self.table = table
        self.left: dict[str, str] = {}
        self.layers: dict[int, Layer] = {}
        self.chosen: set[int] = set()
        self.flat_ends = FlatEnds(index)
        self.read: set[str] = set()

    def place(self) -> Placement:
        self._choose_weighted()
        self._choose_others()
        self._prune()
        sites = self._sites()
        groups = self._groups()
        scales = self._scales(sites, groups)
        kept = frozenset(t for t in scales if not self._born(t))
        layers = tuple(self.layers[n] for n in sorted(self.layers))
        inputs = {layer.name: self._scale(groups.get(layer.data, [layer.data])) for layer in layers}
        return Placement(layers, frozenset(self.chosen), scales, inputs, kept, self.left, frozenset(self.read))

    # --- which nodes --------------------------------------------------------------------------------------------------

    def _choose_weighted(self) -> None:
        for number, node in enumerate(self.index.nodes):
            if node.op_type in _NEVER and any(map(self.index.is_constant, node.input)):
                self.left[node.name] = f"{node.op_type} is quantized for no engine"
            if node.op_type not in WEIGHTED:
                continue
            reason = self._refusal(number, node)
            if reason is not None:
                self.left[node.name] = reason
                self.layers.pop(number, None)
            else:
                self.chosen.add(number)

    def _refusal(self, number: int, node: Node) -> str | None:
        """Return why a weighted node stays in float; else None, with its layer noted when it has constant weights."""
        if self._is_left(node):
            return "left in float by the rules"
        if node.op_type == "MatMul" and not any(map(self.index.is_constant, node.input)):
            return self._without_range(list(node.input))
        layer = find_layer(self.index, number, self.rules.per_channel)
        if isinstance(layer, str):
            return layer
        if self.table.plain_deconvolutions and node.op_type == "ConvTranspose" and not self._is_plain(node):
            return "with such strides, dilations and pads the engine's int8 code saturates"
        needed = [layer.data]
        if node.op_type in self.table.needs_output:
            needed.append(self._end(number))
        self.layers[number] = layer
        return self._without_range(needed)

    def _is_plain(self, node: Node) -> bool:
        """Say whether a deconvolution keeps what ``plain_deconvolutions`` asks for."""
        kernel = self.index.constant(node.input[1]).shape[2:]
        ones = [1] * len(kernel)
        strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
        pads = attribute(node, "pads", [0, 0] * len(kernel))
        reach = [dilation * (extent - 1) for extent, dilation in zip(kernel, dilations, strict=True)]
        cut = any(pad > most for pad, most in zip(pads, [*reach, *reach], strict=True))
        return not cut and not (max(strides) > 1 and max(dilations) > 1)

    def _without_range(self, tensors: list[str]) -> str | None:
        missing = [t for t in tensors if self._range(t) is None]
        return f"no range was measured for {missing[0]!r}" if missing else None

    def _is_left(self, node: Node) -> bool:
        listed = node.op_type in self.table.operators and node.domain in ("", "ai.onnx")
        patterns = self.rules.leave
        return not listed or any(node.op_type == p or fnmatch.fnmatchcase(node.name, p) for p in patterns)

    def _choose_others(self) -> None:
        """Add the operators between: those whose inputs are int8 anyway, so that no conversion is paid for."""
        converted = {self.layers[number].data for number in self.chosen if number in self.layers}
        for number, node in enumerate(self.index.nodes):
            if node.op_type not in MOVES | COMPUTES | {"Concat"} or self._is_left(node):
                continue
            inputs = self._activations(node)
            if not inputs or not all(name in converted or self._born(name) for name in inputs):
                continue
            tensors = [*inputs, self._end(number), *filter(None, node.output[1:])]
            if self._can_compute(node) and not self._without_range(tensors):
                self.chosen.add(number)

    def _can_compute(self, node: Node) -> bool:
        """Say whether the engines' int8 form of this operator exists for this node and is worth its rounding.

        Sums of results of matrix products stay float: products give float without a conversion, and the sums are the
        residual stream of a transformer, whose few large values would cost all others their precision.
        """
        if node.op_type in ("Add", "Mul", "Sub"):
            return not any(map(self.index.is_constant, node.input)) and any(map(self._born_integer, node.input))
        if node.op_type == "Resize":
            return attribute(node, "mode", b"nearest") in (b"nearest", b"linear")
        if node.op_type == "Pad":
            return self._pads_zeros(node)
        if node.op_type == "MaxPool":
            return len(list(filter(None, node.output))) == 1
        return True

    def _pads_zeros(self, node: Node) -> bool:
        """Say whether a Pad only repeats values or adds zeros, which every scale has."""
        value = node.input[2] if len(node.input) > 2 else ""
        return attribute(node, "mode", b"constant") != b"constant" or not value or self.index.scalar(value) == 0

    def _activations(self, node: Node) -> list[str]:
        """Return the inputs of a node that carry activations: not shapes, indices or other constants."""
        names = node.input if node.op_type in ("Add", "Mul", "Sub", "Concat", "MatMul") else node.input[:1]
        return [name for name in names if name and not self.index.is_constant(name)]

    def _producer(self, tensor: str) -> int | None:
        """Return the int8 node that makes ``tensor``, seen through fused activations; None when it is made in float."""
        number = self.index.producer.get(tensor)
        while number is not None and number not in self.chosen:
            before = self._fused_into(number)
            number = self.index.producer.get(before) if before is not None else None
        return number

    def _born(self, tensor: str) -> bool:
        return self._producer(tensor) is not None

    def _born_integer(self, tensor: str) -> bool:
        """Say whether ``tensor`` is made in int8 by anything but a matrix product."""
        number = self._producer(tensor)
        return number is not None and self.index.nodes[number].op_type not in ("Gemm", "MatMul")

    def _fused_into(self, number: int) -> str | None:
        """Return the input through which node ``number`` is computed inside the node before it, else None."""
        node = self.index.nodes[number]
        candidates = [name for name in node.input if name and not self.index.is_constant(name)]
        if len(candidates) != 1 or self.index.sole_user(candidates[0]) != number:
            return None
        return candidates[0] if self._fuses(node, candidates[0]) else None

    def _fuses(self, node: Node, tensor: str) -> bool:
        producer = self.index.producer.get(tensor)
        before = self.index.nodes[producer].op_type if producer is not None else ""
        if node.op_type in self.table.activations:
            return before not in self.table.activations  # engines drop or fuse one, not a row of them
        return node.op_type == "Add" and before == "MatMul"

    def _end(self, number: int) -> str:
        """Return the tensor after the activations that are computed inside node ``number``."""
        tensor: str = self.index.nodes[number].output[0]
        while (user := self.index.sole_user(tensor)) is not None and self._fused_into(user) == tensor:
            tensor = self.index.nodes[user].output[0]
        return tensor

    def _prune(self) -> None:
        """Give back the operators whose int8 output nobody takes; pooling stays, it makes the tensor smaller.

        Not so a mean over everything: what is left is little to convert, and mostly the answer itself.
        """
        pools = ("AveragePool", "MaxPool") if self.table.wraps_moves else ()
        for number in sorted(self.chosen - set(self.layers), reverse=True):
            node = self.index.nodes[number]
            if node.op_type in WEIGHTED or node.op_type in pools:
                continue
            if not any(self._taken(name) for name in node.output if name):
                self.chosen.discard(number)

    def _taken(self, tensor: str) -> bool:
        users = self.index.users(tensor)
        return any(
            u in self.chosen or (self._fused_into(u) == tensor and self._taken(self.index.nodes[u].output[0]))
            for u in users
        )

    # --- which tensors ------------------------------------------------------------------------------------------------

    def _sites(self) -> dict[str, None]:
        """Return the tensors that get Q/DQ, in the order of the graph."""
        sites: dict[str, None] = {}
        for number in sorted(self.chosen):
            node = self.index.nodes[number]
            for name in [self.layers[number].data] if number in self.layers else self._activations(node):
                if self.table.wraps_moves or not self._passed_on(name):
                    sites.setdefault(name)
            if node.op_type in self.table.needs_output:
                for name in filter(None, node.output):
                    sites.setdefault(self._end(number) if name == node.output[0] else name)
        if self.table.residual:
            self._add_residuals(sites)
        return sites

    def _passed_on(self, tensor: str) -> bool:
        """Say whether ``tensor`` comes int8 out of an operator that only moves values."""
        number = self.index.producer.get(tensor)
        return number in self.chosen and self.index.nodes[number].op_type in MOVES | {"Concat"}

    def _add_residuals(self, sites: dict[str, None]) -> None:
        """Quantize one input of an addition of two int8 results; the other is added inside its convolution."""
        for node in self.index.nodes:
            if node.op_type != "Add" or any(map(self.index.is_constant, node.input)) or len(set(node.input)) != 2:
                continue
            if any(name in sites for name in node.input) or not all(map(self._born, node.input)):
                continue
            shortcut = node.input[1]
            if self._range(shortcut) is not None:
                sites.setdefault(shortcut)

    # --- scales -------------------------------------------------------------------------------------------------------

    def _range(self, tensor: str) -> TensorRange | None:
        number = self.index.producer.get(tensor)
        measured = self.ranges.get(tensor)
        if number is not None and (fixed := FIXED_RANGES.get(self.index.nodes[number].op_type)):
            return bounded_range(*fixed, measured)
        return measured

    def _scales(self, sites: dict[str, None], groups: Mapping[str, list[str]]) -> dict[str, ActivationScale]:
        scales = {name: self._scale(groups.get(name, [name])) for name in sites}
        for number in sorted(self.chosen):
            node = self.index.nodes[number]
            output = node.output[0]
            end = self._end(number)
            open_end = node.op_type in self.table.needs_output and end != output
            found = self._range(output)
            if open_end:
                self.read.add(output)
            if open_end and found is not None and not self._drops(number, scales[end]):
                scales[output] = activation_scale(found, self.rules)
        return scales

    def _scale(self, members: list[str]) -> ActivationScale:
        found = self._joined_range(members)
        if len(members) == 1:
            found = self.flat_ends.narrow(members[0], found)
        if self.table.symmetric_products and any(map(self._is_factor, members)):
            second = any(self._is_factor(member, second=True) for member in members)
            symmetric = second or found.low < 0
            rules = dataclasses.replace(
                self.rules, activation_type="int8" if symmetric else "uint8", activation_symmetric=symmetric
            )
            return activation_scale(found, rules)
        return activation_scale(found, self.rules)

    def _is_factor(self, tensor: str, *, second: bool = False) -> bool:
        """Say whether ``tensor`` is a factor, or the second one, of a product of two activations in int8."""
        for number in self.index.users(tensor):
            node = self.index.nodes[number]
            product = node.op_type == "MatMul" and number in self.chosen and number not in self.layers
            if product and tensor in node.input[1 if second else 0 :]:
                return True
        return False

    def _drops(self, number: int, after: ActivationScale) -> bool:
        """Say whether the engine drops every Relu and Clip behind node ``number``, because Q clips no less."""
        tensor = self.index.nodes[number].output[0]
        while (user := self.index.sole_user(tensor)) is not None and self._fused_into(user) == tensor:
            if not clips_no_more(self.index, self.index.nodes[user], after):
                return False
            tensor = self.index.nodes[user].output[0]
        return True

    def _groups(self) -> dict[str, list[str]]:
        """Return for each tensor that shares its scale with others all tensors that share it."""
        group: dict[str, list[str]] = {}
        for number in sorted(self.chosen):
            node = self.index.nodes[number]
            if node.op_type not in MOVES | {"Concat"}:
                continue
            outputs = list(filter(None, node.output))
            members = list(group.get(outputs[0], outputs))
            for name in [*outputs[1:], *self._activations(node)]:
                joined = [*members, *(m for m in group.get(name, [name]) if m not in members)]
                if node.op_type != "Concat" or self._can_share(members, group.get(name, [name]), joined):
                    members = joined
            for name in members:
                group[name] = members
        return group

    def _can_share(self, first: list[str], second: list[str], joined: list[str]) -> bool:
        """Say whether two groups of tensors lose little by sharing one scale, since only then a Concat copies."""
        if self.table.same_scale_concat:
            return True
        parts, whole = [self._joined_range(first), self._joined_range(second)], self._joined_range(joined)
        if any(part.low >= 0 > whole.low for part in parts):
            return False  # a Relu in front would not be dropped any more
        width = max(whole.high, 0) - min(whole.low, 0)
        return all(width <= _SIMILAR * (max(part.high, 0) - min(part.low, 0)) for part in parts)

    def _joined_range(self, members: list[str]) -> TensorRange:
        self.read.update(members)
        return join_ranges([r for r in map(self._range, members) if r is not None])


def clips_no_more(index: GraphIndex, node: Node, scale: ActivationScale) -> bool:
    """Say whether a Relu or Clip changes nothing that storing with ``scale`` would not do as well."""
    if node.op_type == "Relu":
        return scale.low >= 0
    if node.op_type != "Clip":
        return True
    bounds = [index.scalar(name) if name else None for name in [*node.input[1:], "", ""][:2]]
    if any(name and not index.is_constant(name) for name in node.input[1:]):
        return False
    low, high = bounds
    return (low is None or scale.low >= low) and (high is None or scale.high <= high)


def find_layer(index: GraphIndex, number: int, per_channel: bool) -> Layer | str:
    """Return the layer of a node with constant weights, or the reason why it cannot be quantized."""
    node = index.nodes[number]
    problem = _problem(index, node)
    if problem is not None:
        return problem
    operator, weight = node.op_type, node.input[1]
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    transposed = operator == "Gemm" and bool(attribute(node, "transB", 0))
    axis = 0 if operator == "Conv" or transposed else 1
    if operator == "MatMul" and len(index.constants[weight].dims) != 2:
        per_channel = False  # a stack of matrices has no axis of output channels alone
    layer = Layer(number, node.name, operator, node.input[0], weight, axis if per_channel else None, bias)
    if operator == "Gemm":
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        return dataclasses.replace(layer, alpha=alpha, beta=beta, transposed=transposed)
    return dataclasses.replace(layer, groups=attribute(node, "group", 1))


def _problem(index: GraphIndex, node: Node) -> str | None:
    """Return why a node of one of the operators with weights has none that can be quantized."""
    if len(node.input) < 2 or not index.is_constant(node.input[1]):
        first = index.is_constant(node.input[0])
        return "its constant is the left operand" if first else "its weights are not constant"
    if index.is_constant(node.input[0]):
        return "its input is constant"
    weight = index.constants[node.input[1]]
    if weight.data_type != _FLOAT32:
        return f"its weights are {_type_name(weight)}, not float32"
    if 0 in weight.dims:
        return "its weights are empty"
    return _bias_problem(index, node, weight)


def _type_name(tensor: Any) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(tensor.data_type)).lower()


def _bias_problem(index: GraphIndex, node: Node, weight: Any) -> str | None:
    name = node.input[2] if len(node.input) > 2 else ""
    if name and (not index.is_constant(name) or index.constants[name].data_type != _FLOAT32):
        return "its bias is not a float32 constant"
    if node.op_type != "Gemm":
        return None
    if attribute(node, "transA", 0):
        return "transA is set"
    channels = weight.dims[0 if attribute(node, "transB", 0) else 1]
    dims = list(index.constants[name].dims) if name else []
    if dims and (any(d != 1 for d in dims[:-1]) or dims[-1] not in (1, channels)):
        return "its bias differs from row to row"
    return None
