"""Rules, placement of Q/DQ, weights and corrections."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.stage import stage
from edgepack.specs.data import Ranges
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules


@stage("quantize")
def quantize(model: OnnxModel, ranges: Ranges, rules: QuantizationRules, out: Path) -> OnnxModel:
    """Write ``model`` with Q/DQ and integer weights into the folder ``out``, by the rules of one target.

    ``ranges`` are those of this very model's tensors. Same inputs, same bytes. Raises ``ModelError`` when the model is
    quantized already, has infinite weights, or has nothing that the target can run in int8; ``ConfigError`` when the
    rules conflict or the ranges are another model's.
    """
    from edgepack.graph.load import save_proto
    from edgepack.quantize.insert import insert
    from edgepack.quantize.plan import make_plan, nearest_integers

    plan = make_plan(model, ranges, rules)
    insert(plan.proto, plan.index, plan.placement, nearest_integers(plan), rules)
    return save_proto(plan.proto, out)
