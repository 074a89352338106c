"""int8 by the target's rules, with those corrections that help on samples which they were not fitted on."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.parallel import each
from edgepack.base.stage import stage
from edgepack.engines import REFERENCE
from edgepack.engines.int8 import WEIGHTED
from edgepack.errors import EdgepackError
from edgepack.quantize.correct.effort import Budget, find_budget
from edgepack.quantize.correct.judge import Judge, judging_versions
from edgepack.quantize.correct.tree import Tree
from edgepack.specs.build import Correction
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from edgepack.quantize.correct.gain_bias import FloatOutputs
    from edgepack.quantize.plan import Plan
    from edgepack.quantize.weights import IntegerWeights
    from edgepack.specs.task import Frame
    from edgepack.specs.types import Array

    Weights = Mapping[str, IntegerWeights]

_FEWEST = 4
_SEED = 0
# Below this balanced SQNR, or where a detector shows less than this share of fp32's boxes, what loses most is left in
# float, if it has at most this share of the multiply-adds, and if that gains at least so much. Where int8 would be
# useless without (``POOR_DB``), the share may be larger.
ENOUGH_DB, POOR_DB = 15.0, 10.0
ENOUGH_SHOWN = 0.97
_MOST_FLOAT, _MOST_FLOAT_POOR = 0.25, 0.75
_LEAST_WITHOUT_DB = 1.0
# By how much corrections that are made anew raise the level of a set left in float at most, about.
_MOST_GAINED_DB = 3.0
# Layers whose integers are searched at once: the largest take a tenth of a GiB each.
_ROUNDED_AT_ONCE = 4
# Folders of float models with scaled channels.
_SOURCES = "source*"
# Weights of more than this are not corrected: several copies of them would have to be held at once.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Corrected:
    """The int8 model, and what each step brought; ``judged_on`` samples none of which was fitted on.

    ``source`` is the float model whose tensors the int8 model's stand for: the one that was given, or one that computes
    the same with scaled channels. ``reason`` says why nothing was tried. ``boxes`` are those that fp32 shows in the
    samples that were used, None where its answers are not boxes.
    """

    model: OnnxModel
    source: OnnxModel
    steps: tuple[Correction, ...]
    judged_on: int
    reason: str | None = None
    boxes: int | None = None


@dataclass(frozen=True)
class _State:
    """Where the steps have come to: the float model, what its layers make of the samples that are fitted on, the
    integers, and their SQNR in dB.
    """

    source: OnnxModel
    exact: FloatOutputs
    weights: Weights
    level: float = -math.inf

    @property
    def plan(self) -> Plan:
        """What is quantized in the float model."""
        return self.exact.plan


def _judging(_model: object, _ranges: object, rules: QuantizationRules, *_others: object) -> Mapping[str, str]:
    """Return what judges the corrections: another version of it may decide otherwise."""
    return judging_versions(rules.engine)


@stage("quantize", host="numbers", depends=_judging)
def quantize_corrected(
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    samples: SampleSet,
    effort: str,
    out: Path,
    progress: Progress = no_progress,
) -> Corrected:
    """Quantize as ``quantize`` does, then try each correction and keep it when it raises the SQNR on unseen samples.

    Steps: channels scaled so that one step suits all of a tensor (``equalize.py``; the ranges are measured again, by
    the same observer on the same samples), integers nearest to the weights in the output (second-order rounding with a
    searched scale, ``rounding.py``), biases, or gains and biases, corrected layer by layer (``gain_bias.py``). Layers
    that the engine computes otherwise in int8 than the file says are left in float (``misread.py``). Where all that
    does not bring the SQNR to 15 dB, or a detector to 97 % of fp32's boxes, so are the groups of operators that lose
    most (``culprits.py``), and the steps are made anew.

    SQNR is that of all outputs, their parts counting alike, on calibration samples set apart from those that are fitted
    on, by the engine that judges (``judge.py``). With fewer than 4 samples, or weights of more than 1 GiB, nothing is
    corrected; copies of samples that are fitted on judge nothing. Same inputs, same bytes. Raises what ``quantize``
    raises.
    """
    from edgepack.graph.load import save_proto
    from edgepack.quantize.insert import insert
    from edgepack.quantize.plan import make_plan, nearest_integers

    budget = find_budget(effort)
    plan = make_plan(model, ranges, rules)
    reason = _why_not(plan, samples)
    fitting, judging, frames = _split(model, samples, budget) if reason is None else ([], [], [])
    if reason is None and not judging:
        reason = "there is nothing to judge corrections on: the calibration samples are copies of each other"
    if reason is not None:
        weights = nearest_integers(plan)
        # Into the graph itself: a large one is not held twice.
        insert(plan.proto, plan.index, plan.placement, weights, rules)
        return Corrected(save_proto(plan.proto, out), model, (), 0, reason)
    judge = Judge(model, judging, rules.engine, out, fitting, samples.task, frames)
    job = _Job(model, ranges, samples, fitting, judge, budget, out)
    state, steps = _correct(job, plan, progress)
    state, misread = _without_misread(job, state, rules, progress)
    state, more = _without_worst(job, state, state.plan.rules, progress)
    written = _write(state.plan, state.weights, out)
    return Corrected(written, state.source, (*steps, *misread, *more), len(judging), boxes=judge.boxes)


@dataclass(frozen=True)
class _Job:
    """What the corrections of one model work with, whatever is left in float."""

    model: OnnxModel
    ranges: Ranges
    samples: SampleSet
    fitting: Sequence[dict[str, Any]]
    judge: Judge
    budget: Budget
    out: Path

    def judged(self, state: _State) -> _State:
        """Return a state with the SQNR in dB that its integers give on the samples set apart."""
        return dataclasses.replace(state, level=self.level(state.plan, state.weights))

    def suffices(self, state: _State) -> bool:
        """Say whether nothing more need be left in float: of a detector, by the boxes that it shows as well."""
        if state.level < ENOUGH_DB:
            return False
        written = _write(state.plan, state.weights, self.out / "written")
        try:
            shown = self.judge.shown(written)
        finally:
            shutil.rmtree(self.out / "written")
        return shown is None or shown >= ENOUGH_SHOWN

    def level(self, plan: Plan, weights: Weights) -> float:
        """Return the SQNR in dB that these integers give there."""
        written = _write(plan, weights, self.out / "written")
        try:
            return self.judge(written)
        finally:
            shutil.rmtree(self.out / "written")


def _correct(job: _Job, plan: Plan, progress: Progress) -> tuple[_State, list[Correction]]:
    """Try the corrections one after another on a plan; return the best state, and what each brought."""
    from edgepack.quantize.correct.gain_bias import FloatOutputs
    from edgepack.quantize.plan import nearest_integers

    known = set(job.out.glob(_SOURCES))
    first = job.judged(_State(job.model, FloatOutputs(plan, job.fitting), nearest_integers(plan)))
    tree = Tree(first, lambda state: state.level, job.judged, branches=job.budget.branches)
    biases = {"biases corrected layer by layer": lambda s: _correct_outputs(s, gains=False)}
    rows: list[Mapping[str, Callable[[_State], _State | None]]] = [
        {"channels scaled": lambda s: _scale_channels(s, job)},
        {"integers nearest in the output": lambda s: _second_order(s, job.fitting)},
        {
            **biases,
            "gains and biases corrected layer by layer": lambda s: _correct_outputs(s, gains=True),
        },
    ]
    if not job.budget.second_order:
        del rows[1]
    for number, row in enumerate(rows):
        progress("corrections", number, len(rows))
        tree.grow(row, outlook=biases if job.budget.outlook and row is not rows[-1] else {})
    progress("corrections", len(rows), len(rows))
    best = tree.best()
    for folder in set(job.out.glob(_SOURCES)) - known - {best.source.path.parent}:
        shutil.rmtree(folder)
    tried = [Correction(t.name, t.level, kept=t.kept, reason=t.reason) for t in tree.tried()]
    return best, [Correction("integers nearest to the weights", first.level, kept=True), *tried]


def _without_misread(
    job: _Job, state: _State, rules: QuantizationRules, progress: Progress
) -> tuple[_State, list[Correction]]:
    """Leave in float what the engine computes otherwise than the file says; return the state and what was done."""
    from edgepack.quantize.correct.misread import GAP_DB, find_misread
    from edgepack.quantize.plan import nearest_integers

    def gap(left: tuple[str, ...]) -> float:
        plan = _plan_without(job, rules, _with_names(rules, left))
        return _gap(job, plan, nearest_integers(plan))

    if job.judge.engine == REFERENCE or _gap(job, state.plan, state.weights) < GAP_DB:
        return state, []
    index = state.plan.index
    names = [index.nodes[n].name for n in sorted(state.plan.placement.nodes) if index.nodes[n].op_type in WEIGHTED]
    try:
        left = find_misread(names, gap)
    except EdgepackError as error:
        return state, [
            Correction("operators that the engine misreads in float", None, kept=False, reason=error.message)
        ]
    if left is None:
        return state, []
    plan = _plan_without(job, rules, _with_names(rules, left))
    made, _ = _correct(job, plan, progress)
    kept = made.level >= state.level + _LEAST_WITHOUT_DB
    name = f"in float, as the engine computes otherwise in int8: {', '.join(left)}"
    return made if kept else state, [Correction(name, made.level, kept=kept)]


def _gap(job: _Job, plan: Plan, weights: Weights) -> float:
    """Return by how many dB the engine is below what the file says."""
    written = _write(plan, weights, job.out / "written")
    try:
        return job.judge.as_written(written) - job.judge(written)
    finally:
        shutil.rmtree(job.out / "written")


def _without_worst(
    job: _Job, state: _State, rules: QuantizationRules, progress: Progress
) -> tuple[_State, list[Correction]]:
    """Leave the groups that lose most in float where corrections do not suffice; return the state and the tries.

    As many groups of the ranking as the effort says are tried, as long as they have few of the multiply-adds; all
    corrections are made anew for each that promises to suffice, or most. The first that suffices is kept, else the
    best, if it is better by enough.
    """
    if not job.budget.sizes or job.suffices(state):
        return state, []
    tries: list[Correction] = []
    best = state
    for left in _promising(job, state, _worst_first(job, state, rules, progress)):
        name = f"{len(left)} operators left in float"
        try:
            made, _ = _correct(job, _plan_without(job, rules, _with_names(rules, left)), progress)
        except EdgepackError as error:
            tries.append(Correction(name, None, kept=False, reason=error.message))
            continue
        tries.append(Correction(name, made.level, kept=False))
        best = made if made.level > best.level else best
        if job.suffices(best):
            break
    if best.level < state.level + _LEAST_WITHOUT_DB:
        return state, tries
    return best, [dataclasses.replace(c, kept=c.sqnr_db == best.level) for c in tries]


def _with_names(rules: QuantizationRules, names: Sequence[str]) -> tuple[str, ...]:
    """Return what the rules leave in float, and these nodes."""
    return (*rules.leave, *(glob.escape(name) for name in names))


def _promising(job: _Job, state: _State, sets: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the sets of nodes for which corrections are made anew: those that already bring ``state`` as it is near
    to what suffices when they are left in float, and the one that brings it nearest; of a state whose SQNR suffices,
    those alone that raise it. Of sets that come to the same level, which differ in nodes that were in float anyway, it
    is the first.
    """
    enough = state.level >= ENOUGH_DB
    if not sets or (len(sets) == 1 and not enough):
        return list(sets)
    by_level: dict[float, tuple[str, ...]] = {}
    for left in sets:
        by_level.setdefault(_level_without(job, state, left), left)
    least = max(ENOUGH_DB - _MOST_GAINED_DB, state.level + _LEAST_WITHOUT_DB / 2)
    if not enough:
        least = min(least, max(by_level))
    return [left for level, left in by_level.items() if level >= least]


def _level_without(job: _Job, state: _State, left: tuple[str, ...]) -> float:
    """Return the level of a state with more nodes in float and nothing else changed; -inf where that is not a model."""
    from edgepack.quantize.plan import make_plan

    plan = state.plan
    try:
        rules = dataclasses.replace(plan.rules, leave=_with_names(plan.rules, left))
        return job.level(make_plan(state.source, plan.ranges, rules), state.weights)
    except EdgepackError:  # nothing would be left in int8
        return -math.inf


def _worst_first(job: _Job, state: _State, rules: QuantizationRules, progress: Progress) -> list[tuple[str, ...]]:
    """Return the names of the nodes of the worst groups, of as many as the effort says."""
    from edgepack.quantize.culprits import find_culprits

    written = _write(state.plan, state.weights, job.out / "whole")
    found = find_culprits(
        job.model,
        state.source,
        written,
        job.ranges,
        rules,
        job.samples,
        job.budget.groups,
        job.out / "culprits",
        progress,
    )
    shutil.rmtree(job.out / "whole")
    total = sum(found.macs.values()) or 1
    most = _MOST_FLOAT if state.level >= POOR_DB else _MOST_FLOAT_POOR
    sets: list[tuple[str, ...]] = []
    chosen: dict[str, None] = {}
    taken = 0
    for group in found.groups:
        names = [name for name in group.nodes if name not in chosen]
        share = sum(found.macs.get(name, 0) for name in [*chosen, *names]) / total
        if group.noise is None or group.noise <= 0 or not names or share > most:
            continue
        chosen |= dict.fromkeys(names)
        taken += 1
        if taken in job.budget.sizes:
            sets.append(tuple(chosen))
    return sets


def _plan_without(job: _Job, rules: QuantizationRules, leave: tuple[str, ...]) -> Plan:
    """Return the plan of the job's model with more nodes left in float."""
    from edgepack.quantize.plan import make_plan

    return make_plan(job.model, job.ranges, dataclasses.replace(rules, leave=leave))


def _why_not(plan: Plan, samples: SampleSet) -> str | None:
    count = len(samples.indices)
    if count < _FEWEST:
        return f"corrections need at least {_FEWEST} calibration samples; there {'is' if count == 1 else 'are'} {count}"
    size = sum(len(tensor.raw_data) for tensor in plan.proto.graph.initializer)
    if size > _MOST_BYTES:
        return f"corrections are for models of up to {_MOST_BYTES >> 30} GiB; this one has {size / 2**30:.1f} GiB"
    return None


def _split(
    model: OnnxModel, samples: SampleSet, budget: Budget
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Frame]]:
    """Return what is fitted on, what judges, and where the samples that judge and then the others lie in the input."""
    from edgepack.data.samples import read_frames, read_samples, split_samples, take_samples

    total = len(samples.indices)
    first, rest = split_samples(samples, total - max(total // 4, 1), _SEED)
    fitting = take_samples(first, min(budget.fitting, len(first.indices)), _SEED)
    judging = take_samples(rest, min(budget.judging, len(rest.indices)), _SEED)
    fitted = list(read_samples(fitting, model.inputs))
    known = set(map(_contents, fitted))
    others = zip(read_samples(judging, model.inputs), read_frames(judging), strict=True)
    unseen = [(feed, frame) for feed, frame in others if _contents(feed) not in known]
    frames = [*(frame for _, frame in unseen), *read_frames(fitting)]
    return fitted, [feed for feed, _ in unseen], frames


def _contents(feed: Mapping[str, Any]) -> bytes:
    """Return what is equal for samples that are copies of each other."""
    found = hashlib.sha256()
    for name in sorted(feed):
        found.update(np.ascontiguousarray(feed[name]).tobytes())
    return found.digest()


# --- steps ------------------------------------------------------------------------------------------------------------


def _scale_channels(state: _State, job: _Job) -> _State | None:
    """Return the state of the float model with scaled channels; None where there is nothing to scale."""
    from edgepack.graph.load import save_proto
    from edgepack.quantize.correct.equalize import equalize
    from edgepack.quantize.correct.gain_bias import FloatOutputs
    from edgepack.quantize.correct.scaled_ranges import plan_scaled
    from edgepack.quantize.plan import nearest_integers

    found = equalize(state.plan, job.fitting)
    if found is None:
        return None
    folder = next(place for n in itertools.count() if not (place := job.out / f"source{n}").exists())
    source = save_proto(found.proto, folder)
    plan = plan_scaled(source, job.ranges, state.plan.rules, job.samples, job.out / "ranges")
    return _State(source, FloatOutputs(plan, job.fitting), nearest_integers(plan))


def _correct_outputs(state: _State, *, gains: bool) -> _State:
    from edgepack.quantize.correct.gain_bias import correct_outputs

    return dataclasses.replace(state, weights=correct_outputs(state.exact, state.weights, gains=gains))


def _second_order(state: _State, fitting: Sequence[dict[str, Any]]) -> _State | None:
    """Return new integers for every layer whose second moments can be measured; None where there is none."""
    from edgepack.quantize.correct.moments import can_measure, measure_moments

    plan = state.plan
    if not plan.rules.weight_symmetric:
        return None
    layers = tuple(layer for layer in plan.placement.layers if can_measure(plan.index, layer))
    result = dict(state.weights)

    def feeds() -> Iterator[dict[str, Any]]:
        return iter(fitting)

    for turn in measure_moments(plan.proto, plan.index, layers, feeds, len(fitting)):
        known = [(layer, moments.matrix) for layer, moments in turn if not moments.blocks]
        rounded = each(lambda one: _round_layer(plan, *one), known, most=_ROUNDED_AT_ONCE)
        for (layer, _), found in zip(known, rounded, strict=True):
            result[layer.name] = found or result[layer.name]
    return dataclasses.replace(state, weights=result) if layers else None


def _round_layer(plan: Plan, layer: Any, matrix: Array) -> IntegerWeights | None:
    """Return a layer's integers by second-order rounding; None where the scale it finds cannot be stored."""
    from edgepack.quantize.correct.rounding import FACTORS, SAFE_FACTORS, round_rows_second_order
    from edgepack.quantize.weight_rows import Reduction, reduction
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


def _write(plan: Plan, weights: Weights, out: Path) -> OnnxModel:
    from edgepack.graph.load import save_proto
    from edgepack.quantize.correct.gain_bias import copy_proto
    from edgepack.quantize.graph.index import index_graph
    from edgepack.quantize.insert import insert

    proto = copy_proto(plan.proto)
    insert(proto, index_graph(proto), plan.placement, weights, plan.rules)
    return save_proto(proto, out)
