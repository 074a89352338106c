"""Meets the gates ``--max-drop`` and ``--max-change``: puts the fewest and cheapest operators back to fp32."""

from __future__ import annotations

import dataclasses
import glob
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from edgepack.errors import EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.limits import Limits
from edgepack.quantize.correct import Corrected
from edgepack.quantize.culprits import find_culprits
from edgepack.quantize.mixed_precision import (
    Candidate,
    best_found,
    choose,
    pareto_front,
    put_back_order,
    search,
    single_layers,
)
from edgepack.quantize.sensitivity import sensitivity
from edgepack.specs.build import Trial
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.target import QuantizationRules
from edgepack.verify.evaluate import Evaluation

TRIALS = 12
# Groups around a tensor that are measured beside the single layers.
GROUPS = 12
# Rounds in which the trials are measured in turn.
_ROUNDS = 5
# The metric that trials are compared by where only ``--max-change`` is given.
KEPT = "agreement"


@dataclass(frozen=True)
class Attempt:
    """One model as it was built and evaluated.

    ``source`` is the float model whose tensors those of ``graph`` stand for; ``corrected`` says what was tried on the
    way, None where no corrections were asked for. ``changes`` says what was changed of a model that came quantized.
    """

    graph: OnnxModel
    source: OnnxModel
    compiled: CompiledModel
    evaluation: Evaluation
    corrected: Corrected | None = None
    changes: str = ""


# Measures median latencies in ns of attempts in turn, in so many rounds: [rounds][attempts].
InTurn: TypeAlias = Callable[[tuple[Attempt, ...], int], Sequence[Sequence[int]]]


@dataclass(frozen=True)
class GateOutcome:
    """Every trial, with the Pareto front marked; ``attempt`` is the chosen one, None when nothing passed."""

    trials: tuple[Trial, ...]
    attempt: Attempt | None
    best: Trial


def meet_gate(
    runner: StageRunner,
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    samples: SampleSet,
    first: Attempt,
    limits: Limits,
    build: Callable[[QuantizationRules, str], Attempt],
    time: InTurn | None = None,
) -> GateOutcome:
    """Search for the fewest operators to put back so that the limits hold.

    Candidates are single layers and the groups around the tensors that lose most: between a stem and a depthwise
    convolution a tensor stays in int8 until both leave it, so that either of them alone brings nothing.
    ``build`` quantizes by the given rules, compiles and evaluates on the engine that will run it. At most 12 models are
    built besides ``first``; every one goes through the store, so an interrupted search goes on where it was. ``time``
    measures the attempts in turn on this host; without it the front is by multiply-adds.
    """
    found = runner.run(sensitivity, model, ranges, rules, samples, title="noise of each layer")
    worst = runner.run(
        find_culprits, model, first.source, first.graph, ranges, rules, samples, GROUPS, title="noise of each group"
    )
    groups = [Candidate(one.nodes, one.noise, one.macs) for one in worst.groups if one.noise and len(one.nodes) > 1]
    order = put_back_order([*single_layers(found.noises, found.macs), *groups], tuple(found.noises))
    total = sum(found.macs.values()) or 1
    attempts: dict[tuple[str, ...], Attempt] = {(): first}

    def share(left: tuple[str, ...]) -> float:
        return sum(found.macs.get(name, 0) for name in left) / total

    def passes(trial: Trial) -> bool:
        return trial.passed

    def evaluate(left: tuple[str, ...]) -> Trial:
        chosen = dataclasses.replace(rules, leave=(*rules.leave, *(glob.escape(name) for name in left)))
        attempt = build(chosen, f"{len(left)} operators in fp32")
        attempts[left] = attempt
        return as_trial(left, attempt.evaluation, share(left), limits)

    trials = search(order, as_trial((), first.evaluation, 0.0, limits), passes, evaluate, TRIALS)
    if time is not None:
        turns = time(tuple(attempts[trial.left] for trial in trials), _ROUNDS)
        medians = [round(statistics.median(found)) for found in zip(*turns, strict=True)]
        trials = tuple(dataclasses.replace(t, p50_ns=p50) for t, p50 in zip(trials, medians, strict=True))
    best = choose(trials, passes)
    front = pareto_front(trials)
    marked = tuple(dataclasses.replace(trial, front=trial in front) for trial in trials)
    return GateOutcome(marked, attempts[best.left] if best else None, best_found(trials))


def as_trial(left: tuple[str, ...], evaluation: Evaluation, macs_share: float, limits: Limits) -> Trial:
    """Return what the search keeps of an evaluated model. Raises ``EdgepackError`` for limits of what is not known."""
    metric, value, drop = _judged_by(evaluation, limits)
    return Trial(
        left=left,
        metric=metric,
        value=value,
        drop=drop,
        sqnr_db=evaluation.judged_sqnr_db,
        macs_share=macs_share,
        passed=not limits.broken_by(evaluation) and all(o.passed for o in evaluation.verification.outputs),
        change=evaluation.change.share if evaluation.change is not None else None,
    )


def _judged_by(evaluation: Evaluation, limits: Limits) -> tuple[str, float, float]:
    """Return name, value and drop of what trials are compared by: the metric, or the answers where they alone count."""
    found, change = evaluation.accuracy, evaluation.change
    if limits.max_change is not None and change is None:
        raise EdgepackError(f"the gate --max-change cannot be checked: {evaluation.change_reason}")
    if limits.max_drop is None and change is not None:
        return KEPT, 1 - change.share, change.share
    if found is None:
        raise EdgepackError(f"the gate --max-drop cannot be checked: {evaluation.accuracy_reason}")
    return found.metric, found.value, found.drop
