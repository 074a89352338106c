"""Finds which channels of which tensors can be scaled together without changing what a graph computes.

A channel's scale is brought in by an operator that makes the channel (its weights, bias, gain), passes through
operators that are linear or positively homogeneous, and is taken out by the weights that read it. Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.1, do this for pairs of
layers; here every channel of every tensor has a number, and channels that must be scaled alike have the same one, so
that residual sums, concatenations, shuffles and attention heads need no pattern of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgepack.quantize.graph.index import GraphIndex, Node, attribute

if TYPE_CHECKING:
    from edgepack.specs.types import Array

_FLOAT32 = 1  # TensorProto.FLOAT of onnx.proto
# The number of all channels that keep their scale.
FIXED = 0
_PASSING = frozenset(
    {
        "AveragePool", "Dropout", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool", "Relu",
        "Resize", "Upsample",
    }
)  # fmt: skip
_SPATIAL = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize", "Upsample"})
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Gates:
    """``exits``: by the name of each multiplication behind an activation, the axis of the channels that it scales;
    ``entries``: the names of those in front of one. ``scaled``: by tensor, what an exit makes of it.
    """

    exits: Mapping[str, int] = field(default_factory=dict)
    entries: frozenset[str] = frozenset()
    scaled: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> Set[str]:
        """The names of all these multiplications."""
        return self.exits.keys() | self.entries


@dataclass
class Channels:
    """``numbers``: by tensor an int array of the tensor's rank that broadcasts against it: which scale each value has.

    A tensor that is not there keeps its scale. ``producers``: by node index the numbers of its output channels, brought
    in by its weights or gain. ``readers``: by node index the numbers of its input channels, taken out by its weights.
    ``added``: by node index the numbers by which a constant term is to be multiplied.
    """

    numbers: dict[str, Array] = field(default_factory=dict)
    producers: dict[int, Array] = field(default_factory=dict)
    readers: dict[int, Array] = field(default_factory=dict)
    added: dict[int, Array] = field(default_factory=dict)


def find_channels(index: GraphIndex, shapes: dict[str, list[int]], gates: Gates | None = None) -> Channels:
    """Return the channels of a graph's tensors; ``shapes`` as the model states them, 0 for a size that is not known.

    ``gates``: multiplications that bring a scale in, or take one out.
    """
    return _Finder(index, shapes, gates).find()


class _Finder:
    """The state of one search; lives for one call. Numbers that turn out to be one are joined (union-find)."""

    def __init__(self, index: GraphIndex, shapes: dict[str, list[int]], gates: Gates | None) -> None:
        self.index, self.shapes = index, shapes
        self.exits = gates.exits if gates is not None else {}
        self.entries = gates.entries if gates is not None else frozenset()
        self.parent = [FIXED]
        self.found = Channels()

    def find(self) -> Channels:
        visitors: dict[str, Callable[[int, Node], None]] = {
            "Add": self._sum, "BatchNormalization": self._normalisation, "Clip": self._clip, "Concat": self._concat,
            "Flatten": self._reshape, "LayerNormalization": self._normalisation, "Mul": self._product,
            "Pad": self._pad, "ReduceMean": self._mean, "Reshape": self._reshape, "Split": self._split,
            "Squeeze": self._reshape, "Sub": self._sum, "Transpose": self._transpose, "Unsqueeze": self._reshape,
        }  # fmt: skip
        for number, node in enumerate(self.index.nodes):
            if node.name in self.exits:
                self._exit(number, node)
            elif node.name in self.entries:
                self._entry(number, node)
            elif node.op_type in _WEIGHTED:
                self._weighted(number, node)
            elif node.op_type in _PASSING:
                self._pass(node, self._of(node.input[0]))
            elif node.op_type in visitors:
                visitors[node.op_type](number, node)
            else:
                self._fix_all(node)
        for name in [*self.index.outputs, *self.index.inner]:
            self._fix(name)
        return self._resolved()

    def _resolved(self) -> Channels:
        def final(table: dict[str, Array] | dict[int, Array]) -> dict:  # type: ignore[type-arg]
            resolved = {key: self._roots(numbers) for key, numbers in table.items()}
            return {key: numbers for key, numbers in resolved.items() if (numbers != FIXED).any()}

        found = self.found
        return Channels(final(found.numbers), final(found.producers), final(found.readers), final(found.added))

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def _roots(self, numbers: Array) -> Array:
        return np.array([self._root(int(n)) for n in numbers.ravel()], np.int64).reshape(numbers.shape)

    def _join(self, first: Array, second: Array) -> None:
        """Make both the same, number by number; the fixed one wins, else the lower."""
        for one, other in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            a, b = self._root(one), self._root(other)
            self.parent[max(a, b)] = min(a, b)

    def _fresh(self, count: int) -> Array:
        begin = len(self.parent)
        self.parent.extend(range(begin, begin + count))
        return np.arange(begin, begin + count)

    def _of(self, tensor: str) -> Array | None:
        return self.found.numbers.get(tensor)

    def _fix(self, tensor: str) -> None:
        numbers = self._of(tensor)
        if numbers is not None:
            self._join(numbers, np.full_like(numbers, FIXED))

    def _fix_all(self, node: Node) -> None:
        for name in node.input:
            self._fix(name)

    def _is_float(self, name: str) -> bool:
        """Say whether ``name`` is a float32 constant of the main graph alone, which can be multiplied."""
        tensor = self.index.constants.get(name)
        return tensor is not None and tensor.data_type == _FLOAT32 and name not in self.index.inner

    def _pass(self, node: Node, numbers: Array | None) -> None:
        spatial = node.op_type in _SPATIAL and numbers is not None and any(size > 1 for size in numbers.shape[2:])
        if spatial or (any(node.output[1:]) and node.op_type == "MaxPool"):
            self._fix_all(node)  # neighbours of different scales would be mixed
        elif numbers is not None:
            self.found.numbers[node.output[0]] = numbers

    # --- operators ----------------------------------------------------------------------------------------------------

    def _weighted(self, number: int, node: Node) -> None:
        weight = self.index.constants.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None or self.index.is_constant(node.input[0]):
            if node.op_type == "MatMul" and not any(map(self.index.is_constant, node.input)):
                self._dynamic_product(node)
            else:
                self._fix_all(node)
            return
        sizes = _sizes(node, list(weight.dims))
        rank = len(self.shapes.get(node.input[0], ()))
        single = all(len(self.index.users(name)) == 1 for name in node.input[1:] if name)
        constant = all(self._is_float(name) for name in node.input[1:] if name)
        if sizes is None or rank < 2 or not single or not constant:
            self._fix_all(node)
            return
        axis = rank - 1 if node.op_type in ("Gemm", "MatMul") else 1
        read = self._of(node.input[0])
        if read is not None:
            if read.size == sizes[0] and read.shape[axis] == sizes[0]:
                self.found.readers[number] = read.reshape(-1)
            else:
                self._fix(node.input[0])
        made = self._fresh(sizes[1])
        self.found.producers[number] = made
        self.found.numbers[node.output[0]] = _along(made, axis, rank)

    def _exit(self, number: int, node: Node) -> None:
        """A constant brings a scale in; what it multiplies keeps its own."""
        self._fix(node.input[0])
        shape, axis = self.shapes[node.input[0]], self.exits[node.name]
        made = self._fresh(shape[axis])
        self.found.producers[number] = made
        self.found.numbers[node.output[0]] = _along(made, axis, len(shape))

    def _entry(self, number: int, node: Node) -> None:
        """A constant takes the scale out."""
        numbers = self._of(node.input[0])
        if numbers is not None:
            self.found.readers[number] = numbers

    def _dynamic_product(self, node: Node) -> None:
        """A product of two activations passes the columns of its second factor."""
        self._fix(node.input[0])
        numbers = self._of(node.input[1])
        if numbers is not None and (numbers.ndim < 2 or numbers.shape[-2] != 1):
            self._fix(node.input[1])
        elif numbers is not None and numbers.ndim == len(self.shapes.get(node.output[0], ())):
            self.found.numbers[node.output[0]] = numbers
        else:
            self._fix(node.input[1])

    def _normalisation(self, number: int, node: Node) -> None:
        """Gain and offset bring a scale in; what is normalised keeps its own."""
        self._fix_all(node)
        rank = len(self.shapes.get(node.input[0], ()))
        axis = rank - 1 if node.op_type == "LayerNormalization" else 1
        last = attribute(node, "axis", -1) in (-1, rank - 1) or node.op_type == "BatchNormalization"
        gains = [name for name in node.input[1:3] if name]
        usable = all(self._is_float(name) and len(self.index.users(name)) == 1 for name in gains)
        if rank < 2 or not last or not usable or len(gains) < 1 or any(node.output[1:]):
            return
        dims = list(self.index.constants[gains[0]].dims)
        if len(dims) == 1 and all(list(self.index.constants[name].dims) == dims for name in gains):
            made = self._fresh(dims[0])
            self.found.producers[number] = made
            self.found.numbers[node.output[0]] = _along(made, axis, rank)

    def _clip(self, number: int, node: Node) -> None:
        """Limits at 0 cut the same whatever the scale. At others (ReLU6) the samples would have to tell which channels
        stay below, and those that do not wake on them would be cut when they do.
        """
        del number
        limits = [attribute(node, "min", -np.inf), attribute(node, "max", np.inf)]
        for place, name in enumerate(node.input[1:3]):
            if name:
                limits[place] = self.index.scalar(name)
        if limits[0] in (0, -np.inf) and limits[1] in (0, np.inf):
            self._pass(node, self._of(node.input[0]))
        else:
            self._fix_all(node)

    def _sum(self, number: int, node: Node) -> None:
        first, second = node.input
        if self.index.is_constant(first) != self.index.is_constant(second):
            self._constant_term(number, node)
            return
        one, other = self._of(first), self._of(second)
        shapes = [self.shapes.get(name) for name in node.input]
        alike = shapes[0] is not None and shapes[1] is not None and len(shapes[0]) == len(shapes[1])
        if one is None or other is None or one.shape != other.shape or not alike:
            self._fix_all(node)
            return
        self._join(one, other)
        self.found.numbers[node.output[0]] = one

    def _constant_term(self, number: int, node: Node) -> None:
        tensor, constant = node.input if self.index.is_constant(node.input[1]) else reversed(node.input)
        numbers = self._of(tensor)
        if numbers is None:
            return
        dims = list(self.index.constants[constant].dims)
        fits = len(dims) <= numbers.ndim and len(self.index.users(constant)) == 1 and self._is_float(constant)
        if not fits or not self._grows_by(dims, numbers):
            self._fix(tensor)
            return
        self.found.added[number] = numbers
        self.found.numbers[node.output[0]] = numbers

    def _grows_by(self, dims: list[int], numbers: Array) -> bool:
        """Say whether a constant of this shape times the scales stays within the tensor's own shape."""
        full = [1] * (numbers.ndim - len(dims)) + dims
        return all(d == 1 or n in (1, d) for d, n in zip(full, numbers.shape, strict=True))

    def _product(self, number: int, node: Node) -> None:
        del number
        constants = [self.index.is_constant(name) for name in node.input]
        if all(constants):
            return
        if any(constants):
            tensor, constant = node.input if constants[1] else reversed(node.input)
            numbers = self._of(tensor)
            dims = list(self.index.constants[constant].dims)
            if numbers is not None and len(dims) <= numbers.ndim:
                self.found.numbers[node.output[0]] = numbers
            else:
                self._fix(tensor)
            return
        one, other = (self._of(name) for name in node.input)
        if one is not None and other is not None:  # the scale of a product is the product: only one may have one
            self._fix(node.input[1])
        carried = one if one is not None else other
        if carried is not None and carried.ndim == len(self.shapes.get(node.output[0], ())):
            self.found.numbers[node.output[0]] = carried
        else:
            self._fix_all(node)

    def _concat(self, number: int, node: Node) -> None:
        del number
        numbers = [self._of(name) for name in node.input]
        rank = len(self.shapes.get(node.output[0], ()))
        axis = attribute(node, "axis", 0) % rank if rank else 0
        sizes = [(self.shapes.get(name) or [0] * max(rank, 1))[axis] if rank else 0 for name in node.input]
        whole = all(n is None or n.shape[axis] == size for n, size in zip(numbers, sizes, strict=True))
        if not rank or not all(sizes) or not whole or all(n is None for n in numbers):
            self._fix_all(node)
            return
        flat = [_along(np.full(s, FIXED), axis, rank) if n is None else n for n, s in zip(numbers, sizes, strict=True)]
        others = {tuple(d for place, d in enumerate(n.shape) if place != axis) for n in flat}
        if others != {(1,) * (rank - 1)}:
            self._fix_all(node)
            return
        self.found.numbers[node.output[0]] = np.concatenate(flat, axis)

    def _split(self, number: int, node: Node) -> None:
        del number
        numbers = self._of(node.input[0])
        if numbers is None:
            return
        axis = attribute(node, "axis", 0) % numbers.ndim
        sizes = [(self.shapes.get(name) or [0] * numbers.ndim)[axis] for name in node.output]
        if numbers.shape[axis] == 1:
            parts = [numbers] * len(node.output)
        elif all(sizes) and sum(sizes) == numbers.shape[axis]:
            parts = np.split(numbers, np.cumsum(sizes)[:-1], axis)
        else:
            self._fix_all(node)
            return
        self.found.numbers.update(zip(node.output, parts, strict=True))

    def _pad(self, number: int, node: Node) -> None:
        del number
        mode = attribute(node, "mode", b"constant")
        value = self.index.scalar(node.input[2]) if len(node.input) > 2 and node.input[2] else 0.0
        pads = self.index.constant(node.input[1]) if self.index.is_constant(node.input[1]) else None
        numbers = self._of(node.input[0])
        if numbers is None:
            return
        spread = [place for place, size in enumerate(numbers.shape) if size > 1]
        moved = pads is None or len(node.input) > 3 or any(pads.reshape(2, -1)[:, place].any() for place in spread)
        if (mode == b"constant" and value != 0) or moved:
            self._fix_all(node)
        else:
            self.found.numbers[node.output[0]] = numbers

    def _mean(self, number: int, node: Node) -> None:
        del number
        numbers = self._of(node.input[0])
        if numbers is None:
            return
        axes = attribute(node, "axes")
        if axes is None and len(node.input) > 1 and self.index.is_constant(node.input[1]):
            axes = self.index.constant(node.input[1]).tolist()
        places = {a % numbers.ndim for a in axes} if axes else set()
        if not places or any(numbers.shape[place] != 1 for place in places):
            self._fix_all(node)
            return
        keep = attribute(node, "keepdims", 1)
        self.found.numbers[node.output[0]] = numbers if keep else np.squeeze(numbers, tuple(places))

    def _transpose(self, number: int, node: Node) -> None:
        del number
        numbers = self._of(node.input[0])
        if numbers is not None:
            order = attribute(node, "perm", list(range(numbers.ndim))[::-1])
            self.found.numbers[node.output[0]] = numbers.transpose(order)

    def _reshape(self, number: int, node: Node) -> None:
        """A channel axis may be cut in two, or joined with its neighbours: attention heads, shuffles, Flatten."""
        del number
        numbers = self._of(node.input[0])
        if numbers is None:
            return
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        turned = None if before is None or after is None else reshape_numbers(numbers, before, after)
        if turned is None:
            self._fix_all(node)
        else:
            self.found.numbers[node.output[0]] = turned


def reshape_numbers(numbers: Array, before: list[int], after: list[int]) -> Array | None:
    """Return ``numbers`` for a tensor of shape ``before`` that becomes ``after``; None where that is unknown.

    Sizes that are not known (0) may stand before or behind the axes that are cut or joined, not among them.
    """
    lead = 0
    while lead < min(len(before), len(after)) and before[lead] == after[lead] and numbers.shape[lead] == 1:
        lead += 1
    tail = 0
    while (
        tail < min(len(before), len(after)) - lead
        and before[-1 - tail] == after[-1 - tail]
        and numbers.shape[-1 - tail] == 1
    ):
        tail += 1
    if lead and (before[:lead].count(0) > 1 or before[len(before) - tail :].count(0) > 1):
        return None  # two unknown sizes may have been exchanged
    middle, wanted = before[lead : len(before) - tail], after[lead : len(after) - tail]
    if 0 in middle or 0 in wanted or np.prod(middle, dtype=int) != np.prod(wanted, dtype=int):
        return None
    inner = numbers.reshape(numbers.shape[lead : len(before) - tail])
    spread = np.broadcast_to(inner, middle).reshape(wanted) if wanted else inner.reshape(())
    shrunk = spread
    for place in range(spread.ndim):
        first = np.take(shrunk, [0], place)
        if (shrunk == first).all():
            shrunk = first
    return shrunk.reshape([1] * lead + list(shrunk.shape) + [1] * tail)


def _along(numbers: Array, axis: int, rank: int) -> Array:
    shape = [1] * rank
    shape[axis] = len(numbers)
    return numbers.reshape(shape)


def _sizes(node: Node, dims: list[int]) -> tuple[int, int] | None:
    """Return how many input and output channels a node with weights of this shape has; None where that is unusual."""
    groups = attribute(node, "group", 1)
    if node.op_type == "Conv" and len(dims) > 2:
        return dims[1] * groups, dims[0]
    if node.op_type == "ConvTranspose" and len(dims) > 2:
        return dims[0], dims[1] * groups
    if node.op_type == "MatMul" and len(dims) == 2:
        return dims[0], dims[1]
    if node.op_type == "Gemm" and len(dims) == 2 and not attribute(node, "transA", 0):
        return (dims[1], dims[0]) if attribute(node, "transB", 0) else (dims[0], dims[1])
    return None
