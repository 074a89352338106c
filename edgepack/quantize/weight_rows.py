"""A layer's weights as rows, one an output channel, and which of their terms neighbour in an engine's multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.quantize.placement import Layer
    from edgepack.specs.types import Array


@dataclass(frozen=True)
class Reduction:
    """How the weights of a layer are summed.

    ``rows``: [channels, terms], the weights of each output channel. ``pairs``: arrays [n, 2] of the terms whose
    products are added in int16 on x86 without VNNI (``saturation.py``); in one array no term is in two pairs.
    """

    rows: Array
    pairs: tuple[Array, ...]


def reduction(weight: Array, layer: Layer) -> Reduction:
    """Return the rows of a layer's weights and their neighbours, in the orders of ONNX Runtime and of OpenVINO.

    Terms of a Conv are in the order of its weights: input channel of the group, kernel positions. Of a ConvTranspose:
    input channel, kernel positions. A stack of matrices has the rows of all of them.
    """
    if layer.operator == "Conv":
        rows = weight.reshape(len(weight), -1)
        return Reduction(rows, () if is_depthwise(weight, layer) else _convolution_pairs(weight.shape[1:]))
    if layer.operator == "ConvTranspose":
        rows = np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1)
        # Each output value sums over the input channels of its group, at some kernel positions.
        terms = np.arange(rows.shape[1]).reshape(layer.groups, weight.shape[0] // layer.groups, -1)
        return Reduction(rows, _drop_empty(_neighbours(terms.transpose(0, 2, 1).reshape(-1, terms.shape[1]))))
    turned = weight if layer.transposed else np.swapaxes(weight, -1, -2)
    rows = turned.reshape(-1, turned.shape[-1])
    return Reduction(rows, _drop_empty(_neighbours(np.arange(rows.shape[1])[None])))


def from_rows(rows: Array, shape: tuple[int, ...], layer: Layer) -> Array:
    """Return rows made by ``reduction`` in the shape of the graph's weights."""
    if layer.operator == "Conv" or layer.transposed:
        return rows.reshape(shape)
    if layer.operator == "ConvTranspose":
        return np.moveaxis(rows.reshape(shape[1], shape[0], *shape[2:]), 0, 1)
    return np.swapaxes(rows.reshape(*shape[:-2], shape[-1], shape[-2]), -1, -2)


def is_depthwise(weight: Array, layer: Layer) -> bool:
    """Say whether each input channel of a Conv makes one output channel."""
    return layer.operator == "Conv" and weight.shape[1] == 1 and layer.groups == weight.shape[0]


def _convolution_pairs(shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Return the pairs of a convolution with weights [outputs, *shape]: of each position, and across positions."""
    channels = shape[0]
    by_position = np.moveaxis(np.arange(int(np.prod(shape))).reshape(shape), 0, -1).reshape(-1, channels)
    orders = [_neighbours(by_position)]
    if channels % 2:
        orders.append(_neighbours(by_position.reshape(1, -1)))
    return _drop_empty(*orders)


def _neighbours(terms: Array) -> Array:
    """Return two after two of each row of ``terms``: [n, 2]; the last of an odd row has no neighbour."""
    even = terms[:, : terms.shape[1] // 2 * 2]
    return even.reshape(-1, 2)


def _drop_empty(*orders: Array) -> tuple[Array, ...]:
    return tuple(pairs for pairs in orders if pairs.size)
