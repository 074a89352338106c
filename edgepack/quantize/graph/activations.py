"""Finds activations: pointwise functions of one tensor, in however many nodes (SiLU, hard-swish, GELU, Mish)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.quantize.graph.index import GraphIndex, Node

# Functions of each element alone, whatever else they are. Constants beside the element count as part of the function.
_POINTWISE = frozenset(
    {
        "Abs", "Add", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
        "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid",
        "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
# Positively homogeneous: a scale in front of them is a scale behind them, so that alone they do not hinder one.
_HOMOGENEOUS = frozenset({"Abs", "LeakyRelu", "Neg", "PRelu", "Relu"})
_PRODUCTS = frozenset({"Div", "Mul"})


@dataclass(frozen=True)
class Activation:
    """A function of ``source`` alone, computed by ``nodes``; ``result`` is what leaves it."""

    source: str
    result: str
    nodes: frozenset[int]


def find_activations(index: GraphIndex) -> tuple[Activation, ...]:
    """Return the activations that no scale of a channel can pass, each as large as it can be, in graph order.

    A node belongs to one when all its inputs that are not constant are computed from the same tensor, element by
    element. Rectifiers alone are left out, and products with a constant alone.
    """
    sources = _sources(index)
    members: dict[str, set[int]] = {}
    for number, node in enumerate(index.nodes):
        source = sources.get(node.output[0])
        if source is not None:
            members.setdefault(source, set()).add(number)
    found = []
    for source, numbers in members.items():
        if all(_passes_scales(index, index.nodes[number]) for number in numbers):
            continue
        results = [index.nodes[n].output[0] for n in sorted(numbers) if _leaves(index, n, numbers)]
        found += [Activation(source, result, frozenset(numbers)) for result in results]
    return tuple(sorted(found, key=lambda activation: (min(activation.nodes), activation.result)))


def _sources(index: GraphIndex) -> Mapping[str, str]:
    """Return of each tensor that is a function of another one, element by element, the first of its line."""
    sources: dict[str, str] = {}
    for node in index.nodes:
        if node.op_type not in _POINTWISE or len(node.output) != 1:
            continue
        read = {sources.get(name, name) for name in node.input if name and not index.is_constant(name)}
        if len(read) == 1 and _scalars_only(index, node):
            sources[node.output[0]] = read.pop()
    return sources


def _scalars_only(index: GraphIndex, node: Node) -> bool:
    """Say whether the constants beside the element are the same for all elements: others would differ by channel."""
    constants = [name for name in node.input if name and index.is_constant(name)]
    return node.op_type == "PRelu" or all(index.scalar(name) is not None for name in constants)


def _passes_scales(index: GraphIndex, node: Node) -> bool:
    factor = node.op_type in _PRODUCTS and any(map(index.is_constant, node.input))
    return node.op_type in _HOMOGENEOUS or factor


def _leaves(index: GraphIndex, number: int, members: set[int]) -> bool:
    """Say whether a node's result is read outside the activation."""
    tensor = index.nodes[number].output[0]
    outside = any(user not in members for user in index.users(tensor))
    return outside or tensor in index.outputs or tensor in index.inner
