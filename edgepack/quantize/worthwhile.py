"""Finds which operators are worth computing in int8: the choice with the least cost of all, conversions included.

Each operator of a placement is computed in int8 or in float, each has a cost of its own, and so has each tensor that
passes from one to the other. The cheapest choice for the whole network is a minimum cut between the two (Greig,
Porteous and Seheult 1989, "Exact maximum a posteriori estimation for binary images"): no search, and the same on every
machine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.stage import stage
from edgepack.engines.costs import Cost
from edgepack.specs.data import Ranges
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgepack.engines.costs import PrecisionCosts
    from edgepack.quantize.graph.activations import Activation
    from edgepack.quantize.graph.index import Node
    from edgepack.quantize.plan import Plan

# Capacities are whole numbers: tenths of a microsecond, so that a network of minutes fits 31 bits.
_UNIT_NS = 100
_NEVER = 2**30
# The laws of costs have median errors of 8 to 20 %.
_AT_BEST = 0.85
# A convolution of so few input channels is what begins a network: it reads pixels or samples.
_FEW_CHANNELS = 4


@dataclass(frozen=True)
class Worth:
    """The operators that gain nothing in int8, by name in graph order, and the estimated times in ns.

    ``whole_ns`` is of all in int8 that can be, ``least_ns`` of the choice, ``float_ns`` of all in float. They are of
    these operators alone, so only their differences mean something.
    """

    left: tuple[str, ...]
    whole_ns: int
    least_ns: int
    float_ns: int


@stage("worthwhile")
def find_worthwhile(model: OnnxModel, ranges: Ranges, rules: QuantizationRules, out: Path) -> Worth | None:
    """Return what gains nothing in int8 by the engine's costs; None where these or the model's shapes are not known.

    Where all in float seems to cost least, the answer is for int8 operators that are as much quicker as the laws may
    err: whether they are is measured. A free batch counts as 1. ``out`` is not used. Raises what ``make_plan`` raises.
    """
    from edgepack.quantize.plan import make_plan

    del out
    plan = make_plan(model, ranges, rules)
    if plan.table.costs is None or not _knows_shapes(plan):
        return None
    found = least_cost(plan, plan.table.costs)
    if found.least_ns < found.float_ns:
        return found
    return least_cost(plan, plan.table.costs.with_int8_at(_AT_BEST))


def _knows_shapes(plan: Plan) -> bool:
    """Say whether the shapes of all that the layers make are known, except for the batch."""
    from edgepack.quantize.graph.rewrite import shapes_of

    shapes = shapes_of(plan.proto)
    made = [shapes.get(plan.index.nodes[layer.node].output[0], []) for layer in plan.placement.layers]
    return all(len(shape) > 1 and all(extent > 0 for extent in shape[1:]) for shape in made)


def least_cost(plan: Plan, costs: PrecisionCosts) -> Worth:
    """Return the cheapest choice of what a plan computes in int8."""
    graph = choices_of(plan, costs)
    chosen = graph.cheapest()
    everything = frozenset(plan.placement.nodes)
    left = tuple(plan.index.nodes[number].name for number in sorted(everything - chosen))
    return Worth(left, graph.cost(everything), graph.cost(chosen), graph.cost(frozenset()))


# --- a graph of choices -----------------------------------------------------------------------------------------------

_INT8, _FLOAT = "int8", "float"


@dataclass
class Choices:
    """Things that are int8 or float, with what either costs, and what is paid where one is int8 and another is not.

    Things are numbers and names; the two ends "int8" and "float" are what they say. Costs are in ``_UNIT_NS``.
    """

    pairs: dict[tuple[object, object], int] = field(default_factory=dict)

    def pay_as_int8(self, thing: object, ns: float) -> None:
        """Add what a thing costs in int8."""
        self.pay_between(thing, _FLOAT, ns)

    def pay_as_float(self, thing: object, ns: float) -> None:
        """Add what a thing costs in float."""
        self.pay_between(_INT8, thing, ns)

    def pay_between(self, first: object, second: object, ns: float) -> None:
        """Add what is paid when ``first`` is int8 and ``second`` is float."""
        if first != second:
            known = self.pairs.get((first, second), 0)
            self.pairs[first, second] = min(known + round(ns / _UNIT_NS), _NEVER)

    def bind(self, first: object, second: object) -> None:
        """Let ``second`` be int8 whenever ``first`` is."""
        self.pairs[first, second] = _NEVER

    def cost(self, chosen: frozenset[int]) -> int:
        """Return in ns what a choice costs, helpers chosen as is cheapest."""
        fixed = {thing for pair in self.pairs for thing in pair if isinstance(thing, int)}
        again = Choices(dict(self.pairs))
        for thing in fixed:
            again.pairs[(_INT8, thing) if thing in chosen else (thing, _FLOAT)] = _NEVER
        side = again._side()
        paid = (ns for (a, b), ns in self.pairs.items() if a in side and b not in side)
        return sum(paid) * _UNIT_NS

    def cheapest(self) -> frozenset[int]:
        """Return the numbers that are int8 in the cheapest choice; of several, the one with fewest."""
        return frozenset(thing for thing in self._side() if isinstance(thing, int))

    def _side(self) -> set[object]:
        """Return what lies on the side of int8 in a minimum cut: what is reached where the flow leaves room."""
        import numpy as np
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow

        things = list(dict.fromkeys([_INT8, _FLOAT, *(thing for pair in self.pairs for thing in pair)]))
        places = {thing: place for place, thing in enumerate(things)}
        first, second = zip(*((places[a], places[b]) for a, b in self.pairs), strict=True) if self.pairs else ((), ())
        capacities = np.fromiter(self.pairs.values(), np.int32, len(self.pairs))
        shape = (len(things), len(things))
        room = csr_array((capacities, (first, second)), shape=shape, dtype=np.int32)
        left = (room - maximum_flow(room, places[_INT8], places[_FLOAT]).flow).tocsr()
        reached, front = {places[_INT8]}, deque([places[_INT8]])
        while front:
            place = front.popleft()
            row = slice(left.indptr[place], left.indptr[place + 1])
            for other, free in zip(left.indices[row].tolist(), left.data[row].tolist(), strict=True):
                if free > 0 and other not in reached:
                    reached.add(other)
                    front.append(other)
        return {things[place] for place in reached}


# --- what a plan costs ------------------------------------------------------------------------------------------------


def choices_of(plan: Plan, costs: PrecisionCosts) -> Choices:
    """Return what each operator of a plan, by its number, costs in int8 and in float, and what conversions cost."""
    return _Coster(plan, costs).choices()


class _Coster:
    """Puts down what each node of a plan costs and what each tensor between them; lives for one call."""

    def __init__(self, plan: Plan, costs: PrecisionCosts) -> None:
        from edgepack.quantize.graph.activations import find_activations
        from edgepack.quantize.graph.rewrite import shapes_of

        self._plan, self._costs, self._index = plan, costs, plan.index
        shapes = shapes_of(plan.proto)
        shapes |= {name: list(tensor.dims) for name, tensor in plan.index.constants.items()}
        self._shapes = shapes
        self._chosen = plan.placement.nodes
        self._activations = {activation.result: activation for activation in find_activations(plan.index)}
        self._choices = Choices()

    def choices(self) -> Choices:
        """Return all costs."""
        for number in sorted(self._chosen):
            self._pay_node(number)
        for tensor in self._read_or_made():
            self._pay_tensor(tensor)
        return self._choices

    def _size(self, tensor: str) -> int:
        """Return the number of elements of a tensor; sizes that are not known count as one."""
        size = 1
        for extent in self._shapes.get(tensor, []):
            size *= max(extent, 1)
        return size

    # nodes

    def _pay_node(self, number: int) -> None:
        node = self._index.nodes[number]
        made, read = self._size(node.output[0]), self._size(node.input[0])
        macs, kind = self._macs(node), self._kind(node)
        self._choices.pay_as_int8(number, _find(self._costs.int8, kind).of(made, read, macs))
        self._choices.pay_as_float(number, self._float_cost(number, kind).of(made, read, macs))

    def _kind(self, node: Node) -> str:
        from edgepack.quantize.graph.index import attribute

        if node.op_type in ("Gemm", "MatMul"):  # of many rows it is what a convolution of size 1 is
            rows = self._shapes.get(node.input[0], [])[:-1]
            return "vector" if all(extent <= 1 for extent in rows) else "pointwise"
        if node.op_type != "Conv":
            return str(node.op_type)
        if attribute(node, "group", 1) > 1:
            return "depthwise"
        _, channels, *window = self._shapes.get(node.input[1], [0, 0])
        if all(extent == 1 for extent in window):
            return "pointwise"
        return "first" if channels <= _FEW_CHANNELS else "dense"

    def _macs(self, node: Node) -> int:
        from edgepack.quantize.graph.index import attribute

        made = self._size(node.output[0])
        if node.op_type == "Conv":
            weight = self._shapes.get(node.input[1], [1])
            return made * self._size(node.input[1]) // max(weight[0], 1)
        if node.op_type in ("Gemm", "MatMul"):
            return made * max(self._shapes.get(node.input[0], [1])[-1:] or [1])
        return made * _product(attribute(node, "kernel_shape", [1]))

    def _float_cost(self, number: int, kind: str) -> Cost:
        """Return what a node costs in float; SiLU is one node there."""
        if kind == "Sigmoid" and self._silu_mul(number) is not None:
            return self._costs.float32["SiLU"]
        if kind == "Mul" and any(self._silu_mul(producer) == number for producer in self._producers(number)):
            return Cost()
        return _find(self._costs.float32, kind)

    def _producers(self, number: int) -> list[int]:
        producers = (self._index.producer.get(name) for name in self._index.nodes[number].input)
        return [
            producer
            for producer in producers
            if producer is not None and self._index.nodes[producer].op_type == "Sigmoid"
        ]

    def _silu_mul(self, number: int) -> int | None:
        """Return the Mul of which node ``number``, a Sigmoid, is a factor beside what it reads."""
        node = self._index.nodes[number]
        user = self._index.sole_user(node.output[0])
        if user is None or self._index.nodes[user].op_type != "Mul":
            return None
        return user if set(self._index.nodes[user].input) == {node.input[0], node.output[0]} else None

    # tensors

    def _read_or_made(self) -> list[str]:
        """Return the activations that chosen nodes read or make, in graph order."""
        names: dict[str, None] = {}
        for number in sorted(self._chosen):
            node = self._index.nodes[number]
            names |= dict.fromkeys(n for n in node.input if n and not self._index.is_constant(n))
            names |= dict.fromkeys(filter(None, node.output))
        return list(names)

    def _pay_tensor(self, tensor: str) -> None:
        """Put down what it costs to convert a tensor: once to int8, and to float for each that reads it so."""
        producer, carrier = self._producer(tensor), self._carrier(tensor)
        size = self._size(tensor)
        int8, layout = self._costs.to_int8.of(size, 0, 0), self._costs.layout.of(size, 0, 0)
        readers = [user for user in self._index.users(tensor) if user in self._chosen]
        if producer is None:
            self._pay_once(tensor, readers, _FLOAT, int8)
            if carrier is not None:
                self._pay_once((tensor, "layout"), readers, carrier, layout)
            return
        self._pay_once(tensor, readers, producer, int8 + layout)
        for user in self._index.users(tensor):
            self._pay_to_float(producer, user, size)
        if tensor in self._index.outputs:
            self._choices.pay_as_int8(producer, self._costs.to_float.of(size, 0, 0))

    def _pay_once(self, helper: object, readers: list[int], producer: object, ns: float) -> None:
        """Pay when ``producer`` is float and any of ``readers`` is int8."""
        if readers:
            name = ("converted", helper)
            for reader in readers:
                self._choices.bind(reader, name)
            self._choices.pay_between(name, producer, ns)

    def _pay_to_float(self, producer: int, user: int, size: int) -> None:
        to_float, layout = self._costs.to_float.of(size, 0, 0), self._costs.layout.of(size, 0, 0)
        if user in self._chosen:
            rows = self._index.nodes[user].op_type in ("Gemm", "MatMul")  # these have one layout alone
            self._choices.pay_between(producer, user, to_float + (0 if rows else layout))
            return
        if self._index.nodes[user].op_type in self._plan.table.activations:
            return  # inside the node before it
        self._choices.pay_as_int8(producer, to_float)
        activation = self._activation_of(user)
        if activation is not None and min(activation.nodes) == user and self._is_fused(activation):
            self._choices.pay_as_int8(producer, self._costs.unfused.of(size, 0, 0))

    def _activation_of(self, number: int) -> Activation | None:
        return next((a for a in self._activations.values() if number in a.nodes), None)

    def _is_fused(self, activation: Activation) -> bool:
        """Say whether a float convolution computes an activation inside."""
        return all(self._index.nodes[number].op_type in self._costs.fuses for number in activation.nodes)

    def _producer(self, tensor: str) -> int | None:
        """Return the chosen node that makes a tensor, seen through the activations that are fused into it."""
        number = self._index.producer.get(tensor)
        while number is not None and number not in self._chosen:
            node = self._index.nodes[number]
            if node.op_type not in self._plan.table.activations:
                return None
            number = self._index.producer.get(node.input[0])
        return number

    def _carrier(self, tensor: str) -> int | None:
        """Return the chosen node whose result a float activation reads that makes ``tensor``."""
        activation = self._activations.get(tensor)
        return self._producer(activation.source) if activation is not None else None


def _find(costs: Mapping[str, Cost], kind: str) -> Cost:
    """Return the cost of a kind; one that is not known costs the same everywhere, which is nothing."""
    return costs.get(kind, Cost())


def _product(extents: Iterable[int]) -> int:
    product = 1
    for extent in extents:
        product *= extent
    return product
