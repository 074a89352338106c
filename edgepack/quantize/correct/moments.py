"""Second moments of what each layer multiplies its weights with, measured on samples in the float model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepack.base.groups import within
from edgepack.base.parallel import each
from edgepack.quantize.graph.index import GraphIndex, Node, attribute
from edgepack.quantize.graph.sessions import open_session

if TYPE_CHECKING:
    from edgepack.quantize.placement import Layer
    from edgepack.specs.types import Array, Feeds

Progress: TypeAlias = Callable[[int, int], None]

# Layers are measured in turns, so that their matrices together stay within this.
_BUDGET_BYTES = 192 << 20
# Positions looked at: this many for each term of a reduction, within these limits.
_POSITIONS_PER_TERM, _LEAST_POSITIONS, _MOST_POSITIONS = 4, 1024, 5120
# Longer reductions are cut into blocks of this many terms that are taken as independent.
LONGEST_BLOCK = 2048


@dataclass(frozen=True)
class Moments:
    """``matrix`` [groups, terms, terms]: mean of the outer product of the activations that a reduction multiplies.

    Terms are in the order of ``weight_rows.py``. A reduction longer than ``LONGEST_BLOCK`` has one matrix for each
    block of its terms instead: [blocks, terms of a block, terms of a block], the last filled up with zeros.
    """

    matrix: Array
    blocks: bool

    def importance(self, terms: int) -> Array:
        """Return the mean square that each of ``terms`` terms multiplies, the mean over groups: [terms]."""
        diagonal = np.einsum("gii->gi", self.matrix)
        return np.asarray(diagonal.reshape(-1)[:terms] if self.blocks else diagonal.mean(axis=0))


def measure_moments(
    proto: Any,
    index: GraphIndex,
    layers: tuple[Layer, ...],
    feeds: Callable[[], Iterator[Feeds]],
    samples: int,
) -> Iterator[list[tuple[Layer, Moments]]]:
    """Yield layers with their moments, in turns of as many as fit into memory; ``feeds`` is read every turn.

    Layers whose input has no batch of patches or rows (stacks of matrices, transposed convolutions) are left out.
    """
    for turn in _turns(index, layers):
        session = open_session(proto, sorted({layer.data for layer in turn}))
        sums = [_Sum(index, layer, samples) for layer in turn]
        for number, feed in enumerate(feeds()):
            add = functools.partial(_Sum.add, number=number, values=session(feed))
            each(add, sums)
        yield [(one.layer, one.moments()) for one in sums]


class _Sum:
    """Adds up one layer's outer products, sample by sample."""

    def __init__(self, index: GraphIndex, layer: Layer, samples: int) -> None:
        self.layer = layer
        self._index, self._samples = index, samples
        self._total: Array | None = None
        self._count = 0

    def add(self, number: int, values: Mapping[str, Array]) -> None:
        """Add those of sample ``number``, in which tensors have these ``values``."""
        layer, index = self.layer, self._index
        random = np.random.default_rng([layer.node, number])
        rows = _input_rows(values[layer.data], index.nodes[layer.node], index, layer, self._samples, random)
        product = np.matmul(rows.transpose(0, 2, 1), rows)
        if self._total is None:
            self._total = product.astype(np.float64)
        else:
            self._total += product
        self._count += rows.shape[1]

    def moments(self) -> Moments:
        """Return the mean, for which the sum gives way."""
        assert self._total is not None, "there is at least one sample"
        self._total /= max(self._count, 1)
        return Moments(self._total, _terms(self._index, self.layer) > LONGEST_BLOCK)


def can_measure(index: GraphIndex, layer: Layer) -> bool:
    """Say whether ``measure_moments`` knows the patches of this layer."""
    return layer.operator in ("Conv", "Gemm") or (
        layer.operator == "MatMul" and len(index.constants[layer.weight].dims) == 2
    )


def _turns(index: GraphIndex, layers: tuple[Layer, ...]) -> Iterator[list[Layer]]:
    def size(layer: Layer) -> int:
        terms = _terms(index, layer)
        block = min(terms, LONGEST_BLOCK)
        return 8 * block * block * (-(-terms // block) if terms > block else layer.groups)

    return within(((layer, size(layer)) for layer in layers if can_measure(index, layer)), _BUDGET_BYTES)


def _terms(index: GraphIndex, layer: Layer) -> int:
    dims = list(index.constants[layer.weight].dims)
    if layer.operator == "Conv":
        return int(np.prod(dims[1:]))
    return int(dims[1] if layer.transposed else dims[0])


def _input_rows(
    values: Array, node: Node, index: GraphIndex, layer: Layer, samples: int, random: np.random.Generator
) -> Array:
    """Return some of the rows that the weights of a layer are multiplied with: float32 [groups, positions, terms]."""
    terms = _terms(index, layer)
    wanted = -(-int(np.clip(_POSITIONS_PER_TERM * terms, _LEAST_POSITIONS, _MOST_POSITIONS)) // max(samples, 1))
    if layer.operator == "Conv":
        rows = convolution_rows(
            values, node, list(index.constants[layer.weight].dims[2:]), layer.groups, wanted, random
        )
    else:
        flat = values.reshape(-1, values.shape[-1])
        rows = flat[_choose(len(flat), wanted, random)][None]
    if terms <= LONGEST_BLOCK:
        return rows
    padded = np.pad(rows[0], ((0, 0), (0, -terms % LONGEST_BLOCK)))
    return padded.reshape(len(padded), -1, LONGEST_BLOCK).transpose(1, 0, 2)


def convolution_rows(
    values: Array, node: Node, kernel: list[int], groups: int, wanted: int, random: np.random.Generator
) -> Array:
    """Return at most ``wanted`` patches of a convolution's input [batch, channels, ...]: [groups, patches, terms]."""
    strides = attribute(node, "strides", [1] * len(kernel))
    dilations = attribute(node, "dilations", [1] * len(kernel))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, values.shape[2:], reach, strides)
    padded = np.pad(values, [(0, 0), (0, 0), *pads]) if any(map(any, pads)) else values
    sizes = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, strides, strict=True)]
    chosen = _choose(len(values) * int(np.prod(sizes)), wanted, random)
    picture, *places = np.unravel_index(chosen, (len(values), *sizes))
    flat = np.zeros((len(chosen), 1), np.int64)
    for place, size, k, stride, dilation in zip(places, padded.shape[2:], kernel, strides, dilations, strict=True):
        along = place[:, None] * stride + np.arange(k) * dilation
        flat = (flat[:, :, None] * size + along[:, None, :]).reshape(len(chosen), -1)
    channels = padded.shape[1]
    patches = padded.reshape(len(padded), channels, -1)[picture[:, None], :, flat]  # [patches, positions, channels]
    rows = patches.transpose(0, 2, 1).reshape(len(chosen), groups, -1)
    return np.ascontiguousarray(rows.transpose(1, 0, 2), np.float32)


def _pads(node: Node, sizes: tuple[int, ...], reach: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """Return (before, after) of each axis, as ONNX's Conv defines pads and auto_pad."""
    mode = attribute(node, "auto_pad", b"NOTSET")
    if mode == b"NOTSET":
        flat = attribute(node, "pads", [0] * 2 * len(reach))
        return list(zip(flat[: len(reach)], flat[len(reach) :], strict=True))
    if mode == b"VALID":
        return [(0, 0)] * len(reach)
    total = [max((-(-n // s) - 1) * s + r - n, 0) for n, r, s in zip(sizes, reach, strides, strict=True)]
    return [(t // 2, t - t // 2) if mode == b"SAME_UPPER" else (t - t // 2, t // 2) for t in total]


def _choose(count: int, wanted: int, random: np.random.Generator) -> Array:
    """Return ``wanted`` of ``count`` indices in ascending order, all of them when there are no more."""
    if count <= wanted:
        return np.arange(count)
    return np.sort(random.choice(count, wanted, replace=False))
