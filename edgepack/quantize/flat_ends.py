"""Finds which part of a tensor's range the activation that reads it can tell apart.

Where an activation is flat, as hard-swish is below -3 and ELU far below 0, values that lie apart give results that do
not, and steps spent on them are lost to the others. Such an end may be clipped as far as the result changes by a part
of what rounding changes of it anyway, near zero and where it is steepest. It is found from the function itself, in
however many nodes it is written.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.quantize.graph.activations import find_activations

if TYPE_CHECKING:
    from edgepack.quantize.graph.index import GraphIndex
    from edgepack.specs.data import TensorRange
    from edgepack.specs.types import Array

# Places of a range at which a function is computed.
_PLACES = 513
_LEVELS = 255.0
_ROUNDS = 2
# What clipping may change of a result, over half a step times the slope, which is what rounding may change. Rounding
# averages out over channels, and what is clipped has one sign and adds up: with a half, a detector of the YOLOX kind
# lost 5 dB in one part of its output.
_SHARE = 0.2
# A range of which more is left stays as it was measured.
_WORTH = 0.95
_READ = "x"


class FlatEnds:
    """The activations of a graph, asked for the ranges that they can tell apart."""

    def __init__(self, index: GraphIndex) -> None:
        self._index = index

    @functools.cached_property
    def _activations(self) -> Mapping[str, tuple[frozenset[int], tuple[str, ...]]]:
        """By the tensor that it reads each activation's nodes and results."""
        found: dict[str, tuple[frozenset[int], tuple[str, ...]]] = {}
        for activation in find_activations(self._index):
            nodes, results = found.get(activation.source, (activation.nodes, ()))
            found[activation.source] = (nodes, (*results, activation.result))
        return found

    def narrow(self, tensor: str, found: TensorRange) -> TensorRange:
        """Return the part of a range that matters to the activation which alone reads ``tensor``; else all of it."""
        low, high = self.told_apart(tensor, found.low, found.high)
        if (low, high) == (found.low, found.high):
            return found
        magnitude = min(found.magnitude, max(abs(low), abs(high)))
        return dataclasses.replace(found, low=low, high=high, magnitude=magnitude)

    def told_apart(self, tensor: str, low: float, high: float) -> tuple[float, float]:
        """Return the ends of the part of [low, high] that matters to what reads ``tensor``."""
        factors = np.ones(1)
        while (through := self._scaled_by(tensor)) is not None:
            tensor, more = through
            factors = np.multiply.outer(factors, more).ravel()
        activation = self._activation_of(tensor)
        if activation is None or not low < high:
            return low, high
        data = self._function(*activation)
        ends = _ends(data, low, high, float(factors.min()), float(factors.max())) if data is not None else None
        if ends is None:
            return low, high
        within = max(low, ends[0]), min(high, ends[1])
        return within if 0 <= within[1] - within[0] < _WORTH * (high - low) else (low, high)

    def _activation_of(self, tensor: str) -> tuple[frozenset[int], tuple[str, ...]] | None:
        found = self._activations.get(tensor)
        kept = tensor in self._index.outputs or tensor in self._index.inner
        return None if kept or found is None or not found[0].issuperset(self._index.users(tensor)) else found

    def _scaled_by(self, tensor: str) -> tuple[str, Array] | None:
        """Return what a multiplication by positive constants, the only one that reads ``tensor``, makes, and these."""
        number = self._index.sole_user(tensor)
        node = self._index.nodes[number] if number is not None else None
        if node is None or node.op_type != "Mul" or tensor in self._activations:
            return None
        constants = [name for name in node.input if self._index.is_constant(name)]
        factors = self._index.constant(constants[0]).astype(np.float64).ravel() if len(constants) == 1 else np.zeros(1)
        return (node.output[0], factors) if factors.size and factors.min() > 0 else None

    def _function(self, nodes: frozenset[int], results: Sequence[str]) -> bytes | None:
        """Return a model of one axis that computes an activation, the same for the same function; None where it has
        constants that are not one number.
        """
        from onnx import helper, numpy_helper

        names: dict[str, str] = {}
        made, constants = [], []
        for number in sorted(nodes):
            node = self._index.nodes[number]
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = ""
            for place, name in enumerate(node.input):
                if name and name not in names:
                    names[name] = f"c{len(names)}" if self._index.is_constant(name) else _READ
                    if self._index.is_constant(name):
                        if (value := self._index.scalar(name)) is None:
                            return None
                        constants.append(numpy_helper.from_array(np.float32(value), names[name]))
                copy.input[place] = names.get(name, "")
            names[node.output[0]] = copy.output[0] = f"t{len(names)}"
            made.append(copy)
        graph = helper.make_graph(
            made, "function", [helper.make_tensor_value_info(_READ, 1, [None])],
            [helper.make_tensor_value_info(names[result], 1, None) for result in results], constants,
        )  # fmt: skip
        return bytes(helper.make_model(graph).SerializeToString(deterministic=True))


def _ends(data: bytes, low: float, high: float, least: float, most: float) -> tuple[float, float] | None:
    """Return the ends of what a function can tell apart of [low, high] times factors from ``least`` to ``most``.

    The channel with the least factor reaches least far, so that it has the ends; its steps are the finest. Zero is
    stored in any case, and so belongs to the range. None where the function cannot be computed.
    """
    places = np.linspace(min(low, 0.0) * most, max(high, 0.0) * most, _PLACES)
    values = _compute(data, places)
    if values is None:
        return None
    slopes = np.abs(np.diff(values)).max(axis=0) / (places[1] - places[0])
    zero = int(np.searchsorted(places, 0.0))
    seen = (places[1:] >= low * most) & (places[:-1] <= high * most)
    slope = min(float(slopes[max(zero - 1, 0) : zero + 1].max()), float(slopes[seen].max()))
    allowed = _SHARE * slope / (2 * _LEVELS)
    bottom, top = low * least, high * least
    first, last = 0, _PLACES - 1
    for _ in range(_ROUNDS):  # what one end gives up makes the steps finer that the other is measured by
        first = _last_alike(values, (min(places[last], top) - np.maximum(places, bottom)) * allowed)
        reach = np.minimum(places, top) - max(places[first], bottom)
        last = _PLACES - 1 - _last_alike(values[:, ::-1], reach[::-1] * allowed)
    return (float(places[first]) / least, float(places[last]) / least) if first < last else None


def _last_alike(values: Array, allowed: Array) -> int:
    """Return the last place that differs from all before it by what is allowed there, at the most."""
    above = (np.maximum.accumulate(values, axis=1) - values).max(axis=0)
    below = (values - np.minimum.accumulate(values, axis=1)).max(axis=0)
    return int(np.flatnonzero(np.maximum(above, below) <= np.maximum(allowed, 0.0))[-1])


@functools.lru_cache(maxsize=64)
def _evaluator(data: bytes) -> Any:
    import onnx
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(onnx.load_from_string(data))


def _compute(data: bytes, places: Array) -> Array | None:
    """Return a function's results [results, places]; None for one that onnx's reference does not compute."""
    try:
        with np.errstate(all="ignore"):
            found = _evaluator(data).run(None, {_READ: places.astype(np.float32)})
    except Exception:  # the reference raises whatever its operators do
        return None
    values = np.stack([np.asarray(each, np.float64).ravel() for each in found])
    return values if values.shape[1] == len(places) and np.isfinite(values).all() else None
