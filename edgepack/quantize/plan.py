"""A model with its placement: what every way of making integers starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.errors import ConfigError
from edgepack.quantize.byte_inputs import with_bytes
from edgepack.quantize.graph.index import GraphIndex, index_graph
from edgepack.quantize.graph.normalise import normalise
from edgepack.quantize.graph.rewrite import join_biases, replace_averages, widen_vectors
from edgepack.quantize.placement import Placement, check_placement, place
from edgepack.quantize.rules import check_rules
from edgepack.quantize.weights import IntegerWeights, integer_weights, read_weights

if TYPE_CHECKING:
    from edgepack.engines.int8 import EngineTable
    from edgepack.specs.data import Ranges
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import QuantizationRules


@dataclass(frozen=True)
class Plan:
    """A float graph in the form that is quantized, its index, and what is to be quantized in it for which engine.

    ``ranges`` are those that the placement was made by.
    """

    proto: Any
    index: GraphIndex
    placement: Placement
    rules: QuantizationRules
    table: EngineTable
    ranges: Ranges


def make_plan(model: OnnxModel, ranges: Ranges, rules: QuantizationRules) -> Plan:
    """Read a model and decide what is quantized. Raises as ``quantize`` does."""
    from edgepack.graph.load import read_proto

    table = check_rules(rules)
    if ranges.model_sha256 != model.sha256:
        raise ConfigError(
            "the ranges were measured on a different model",
            hint="measure them again: 'edgepack calibrate MODEL --data DATA -o ranges.json'",
        )
    proto = normalise(read_proto(model))
    ranges = with_bytes(ranges, proto)
    widen_vectors(proto)
    join_biases(proto)
    index = index_graph(proto)
    placement = place(index, ranges, rules, table)
    if replace_averages(proto, placement.nodes):
        index = index_graph(proto)
        placement = place(index, ranges, rules, table)
    check_placement(placement, index)
    return Plan(proto, index, placement, rules, table, ranges)


def nearest_integers(plan: Plan) -> dict[str, IntegerWeights]:
    """Return by its name every layer's integers, each nearest to its weight by the rules."""
    return {
        layer.name: integer_weights(
            read_weights(plan.index, layer), layer, plan.placement.inputs[layer.name], plan.rules
        )
        for layer in plan.placement.layers
    }
