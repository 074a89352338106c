"""int8 by the target's rules, with those corrections that help on samples which they were not fitted on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.specs import OnnxModel, Progress, QuantizationRules, Ranges, SampleSet, no_progress

if TYPE_CHECKING:
    from edgepack.quantize.plan import Plan
    from edgepack.quantize.weights import IntegerWeights
    from edgepack.specs import Array

    Weights = Mapping[str, IntegerWeights]

# The last quarter of the calibration samples, at most this many, judges; the others are fitted on, at most this many.
_JUDGING, _FITTING = 32, 64
_SEED = 0
# A step is kept when it raises the SQNR by at least this; less is within what other samples would change.
_LEAST_GAIN_DB = 0.05


@dataclass(frozen=True)
class Correction:
    """One step that was tried: the SQNR it gave on the samples that judge, and whether it was kept."""

    name: str
    sqnr_db: float
    kept: bool


@dataclass(frozen=True)
class Corrected:
    """The int8 model, and what each step brought; ``judged_on`` samples none of which was fitted on."""

    model: OnnxModel
    steps: tuple[Correction, ...]
    judged_on: int


def quantize_corrected(
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    samples: SampleSet,
    out: Path,
    progress: Progress = no_progress,
) -> Corrected:
    """Quantize as ``quantize`` does, then try each correction and keep it when it raises the SQNR on unseen samples.

    Steps: integers nearest to the weights in the output (second-order rounding with a searched scale, ``rounding.py``),
    then biases corrected layer by layer (``bias.py``). SQNR is that of all outputs by ONNX Runtime on calibration
    samples set apart from those that are fitted on. With fewer than 4 samples nothing is corrected. Same inputs, same
    bytes. Raises what ``quantize`` raises.
    """
    from edgepack.quantize.bias import correct_biases
    from edgepack.quantize.plan import make_plan

    plan = make_plan(model, ranges, rules)
    best = _plain(plan)
    fitting, judging = _split(model, samples)
    if not judging:
        return Corrected(_write(plan, best, out), (), 0)
    judge = _Judge(model, plan, judging, out)
    level = judge(best)
    steps = [Correction("integers nearest to the weights", level, kept=True)]
    progress("corrections", 1, 3)
    tries: tuple[tuple[str, Callable[[], dict[str, IntegerWeights]]], ...] = (
        ("integers nearest in the output", lambda: _second_order(plan, best, fitting)),
        ("biases corrected layer by layer", lambda: correct_biases(plan, best, fitting, lambda _a, _b: None)),
    )
    for number, (name, correct) in enumerate(tries):
        weights = correct()
        found = judge(weights)
        kept = found >= level + _LEAST_GAIN_DB
        steps.append(Correction(name, found, kept))
        if kept:
            best, level = weights, found
        progress("corrections", number + 2, 3)
    return Corrected(_write(plan, best, out), tuple(steps), len(judging))


def _split(model: OnnxModel, samples: SampleSet) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from edgepack.calibrate.samples import read_samples, split_samples, take_samples

    total = len(samples.indices)
    if total < 4:
        return [], []
    first, rest = split_samples(samples, total - max(total // 4, 1), _SEED)
    fitting = take_samples(first, min(_FITTING, len(first.indices)), _SEED)
    judging = take_samples(rest, min(_JUDGING, len(rest.indices)), _SEED)
    return list(read_samples(fitting, model.inputs)), list(read_samples(judging, model.inputs))


def _plain(plan: Plan) -> dict[str, IntegerWeights]:
    from edgepack.quantize.weights import integer_weights, read_weights

    return {
        layer.name: integer_weights(
            read_weights(plan.index, layer), layer, plan.placement.inputs[layer.name], plan.rules
        )
        for layer in plan.placement.layers
    }


def _second_order(plan: Plan, before: Weights, fitting: Sequence[dict[str, Any]]) -> dict[str, IntegerWeights]:
    """Return ``before`` with new integers for every layer whose second moments can be measured."""
    from edgepack.quantize.moments import can_measure, measure_moments

    result = dict(before)
    if not plan.rules.weight_symmetric:
        return result
    layers = tuple(layer for layer in plan.placement.layers if can_measure(plan.index, layer))

    def feeds() -> Iterator[dict[str, Any]]:
        return iter(fitting)

    for layer, moments in measure_moments(plan.proto, plan.index, layers, feeds, len(fitting)):
        if not moments.blocks:
            found = _round_layer(plan, layer, moments.matrix)
            result[layer.name] = found or result[layer.name]
    return result


def _round_layer(plan: Plan, layer: Any, matrix: Array) -> IntegerWeights | None:
    """Return a layer's integers by second-order rounding; None where the scale it finds cannot be stored."""
    import numpy as np

    from edgepack.quantize.reduction import Reduction, reduction
    from edgepack.quantize.rounding import FACTORS, SAFE_FACTORS, round_rows_second_order
    from edgepack.quantize.weights import read_weights, stored, usable_scale

    source = read_weights(plan.index, layer)
    rows = reduction(source.weight, layer)
    rows = rows if plan.rules.saturates else Reduction(rows.rows, ())
    largest = np.abs(rows.rows).max(axis=1).astype(np.float64) / 127
    if layer.axis is None:
        largest = np.full_like(largest, largest.max())
    if not (largest > 0).all():
        return None  # a channel of zeros: nothing to round
    factors = SAFE_FACTORS if rows.pairs else FACTORS
    found = round_rows_second_order(rows, matrix, largest, factors, per_channel=layer.axis is not None)
    scale = usable_scale(found.scale, source.bias, layer, plan.placement.inputs[layer.name])
    if not np.allclose(scale, found.scale, rtol=1e-5):
        return None  # raised for the bias: these integers were not made for it
    return stored(found.integers, scale, source, layer, plan.rules)


class _Judge:
    """Returns the SQNR in dB that weights give on the samples set apart."""

    def __init__(self, model: OnnxModel, plan: Plan, feeds: Sequence[dict[str, Any]], out: Path) -> None:
        from edgepack.quantize.sensitivity import run_model

        self._plan, self._feeds, self._folder = plan, list(feeds), out / "judged"
        self._expected = run_model(model, self._feeds)

    def __call__(self, weights: Weights) -> float:
        import math

        from edgepack.quantize.sensitivity import noise, run_model

        written = _write(self._plan, weights, self._folder)
        found = noise(self._expected, run_model(written, self._feeds))
        shutil.rmtree(self._folder)
        return -10 * math.log10(max(found, 1e-20)) if math.isfinite(found) else -200.0


def _write(plan: Plan, weights: Weights, out: Path) -> OnnxModel:
    from edgepack.graph.load import save_proto
    from edgepack.quantize.bias import copy_proto
    from edgepack.quantize.executed import LEFT_KEY
    from edgepack.quantize.index import index_graph
    from edgepack.quantize.insert import insert, set_metadata

    proto = copy_proto(plan.proto)
    insert(proto, index_graph(proto), plan.placement, weights, plan.rules)
    set_metadata(proto, LEFT_KEY, json.dumps(plan.placement.left, sort_keys=True))
    return save_proto(proto, out)
