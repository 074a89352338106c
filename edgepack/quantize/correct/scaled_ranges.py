"""Measures a model with scaled channels again: the ranges that its placement reads, and no others.

A float graph has several tensors for each that is quantized, above all where an activation is spelled in many nodes.
Counting and judging the ranges of all of them again was a third of what corrections cost.
"""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

from edgepack.specs.data import Ranges, SampleSet, TensorRange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgepack.quantize.plan import Plan
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import QuantizationRules

# Stands for the range of a tensor until it is measured.
_ANY = TensorRange(-1.0, 1.0, -1.0, 1.0, 1.0)


def plan_scaled(source: OnnxModel, ranges: Ranges, rules: QuantizationRules, samples: SampleSet, out: Path) -> Plan:
    """Return the plan of ``source``, the model behind ``ranges`` with scaled channels, by ranges measured anew.

    ``ranges`` say which tensors have a range at all, which no scale changes; those that the new model alone has are
    measured in any case. The plan is the same as with all ranges measured.
    """
    from edgepack.graph.load import read_proto
    from edgepack.quantize.plan import make_plan

    old = dataclasses.replace(ranges, model_sha256=source.sha256)
    made = {name for node in read_proto(source, weights=False).graph.node for name in node.output}
    guessed = make_plan(source, _joined(old, dict.fromkeys(made, _ANY)), rules).placement.read
    found = _measure(source, ranges, samples, out, lambda name: name in guessed or name not in ranges.tensors)
    plan = make_plan(source, _joined(found, ranges.tensors), rules)
    if plan.placement.read <= found.tensors.keys():
        return plan
    return make_plan(source, _measure(source, ranges, samples, out), rules)  # scales are shared otherwise than before


def _measure(
    source: OnnxModel, ranges: Ranges, samples: SampleSet, out: Path, wanted: Callable[[str], bool] | None = None
) -> Ranges:
    """Return the ranges of ``source`` by the observer that ``ranges`` were chosen by."""
    from edgepack.calibrate import measure_ranges

    try:
        return measure_ranges(source, samples, ranges.observer, ranges.percentile or 100.0, out, wanted=wanted)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _joined(ranges: Ranges, others: Mapping[str, TensorRange]) -> Ranges:
    """Return ``ranges`` with those of ``others`` that they do not have."""
    return dataclasses.replace(ranges, tensors={**others, **ranges.tensors})
