"""Rules, placement of Q/DQ, weights and corrections."""

from __future__ import annotations

import json
from pathlib import Path

from edgepack.errors import ConfigError
from edgepack.specs import OnnxModel, QuantizationRules, Ranges


def quantize(model: OnnxModel, ranges: Ranges, rules: QuantizationRules, out: Path) -> OnnxModel:
    """Write ``model`` with Q/DQ and integer weights into the folder ``out``, by the rules of one target.

    ``ranges`` are those of this very model's tensors. Same inputs, same bytes. Raises ``ModelError`` when the model is
    quantized already, has infinite weights, or has nothing that the target can run in int8; ``ConfigError`` when the
    rules conflict or the ranges are another model's.
    """
    from edgepack.graph.load import read_proto, save_proto
    from edgepack.quantize.executed import LEFT_KEY
    from edgepack.quantize.index import index_graph
    from edgepack.quantize.insert import insert, set_metadata
    from edgepack.quantize.normalise import normalise
    from edgepack.quantize.placement import check_placement, place
    from edgepack.quantize.rewrite import join_biases
    from edgepack.quantize.rules import check_rules
    from edgepack.quantize.weights import integer_weights, read_weights

    table = check_rules(rules)
    if ranges.model_sha256 != model.sha256:
        raise ConfigError(
            "the ranges were measured on another model",
            hint="measure them again: 'edgepack calibrate MODEL --data DATA -o ranges.json'",
        )
    proto = normalise(read_proto(model))
    join_biases(proto)
    index = index_graph(proto)
    placement = place(index, ranges, rules, table)
    check_placement(placement)
    weights = {
        layer.name: integer_weights(read_weights(index, layer), layer, placement.inputs[layer.name], rules)
        for layer in placement.layers
    }
    insert(proto, index, placement, weights, rules)
    set_metadata(proto, LEFT_KEY, json.dumps(placement.left, sort_keys=True))
    return save_proto(proto, out)
