"""Rules, placement of Q/DQ, weights and corrections."""

from __future__ import annotations

import json
from pathlib import Path

from edgepack.specs import OnnxModel, QuantizationRules, Ranges


def quantize(model: OnnxModel, ranges: Ranges, rules: QuantizationRules, out: Path) -> OnnxModel:
    """Write ``model`` with Q/DQ and integer weights into the folder ``out``, by the rules of one target.

    ``ranges`` are those of this very model's tensors. Same inputs, same bytes. Raises ``ModelError`` when the model is
    quantized already, has infinite weights, or has nothing that the target can run in int8; ``ConfigError`` when the
    rules conflict or the ranges are another model's.
    """
    from edgepack.graph.load import save_proto
    from edgepack.quantize.executed import LEFT_KEY
    from edgepack.quantize.insert import insert, set_metadata
    from edgepack.quantize.plan import make_plan
    from edgepack.quantize.weights import integer_weights, read_weights

    plan = make_plan(model, ranges, rules)
    placement = plan.placement
    weights = {
        layer.name: integer_weights(read_weights(plan.index, layer), layer, placement.inputs[layer.name], rules)
        for layer in placement.layers
    }
    insert(plan.proto, plan.index, placement, weights, rules)
    set_metadata(plan.proto, LEFT_KEY, json.dumps(placement.left, sort_keys=True))
    return save_proto(plan.proto, out)
