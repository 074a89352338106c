"""Builds one row: a target and a precision, from the original to a packed bundle or the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgepack.benchmark.measure.rank import latencies_in_turn
from edgepack.calibrate import calibrate
from edgepack.embed.check import in_words as embedded_in_words
from edgepack.engines import ENGINES
from edgepack.engines.fallback import build_versions, runs_here
from edgepack.engines.targets import is_this_host
from edgepack.errors import ConfigError, EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.faster import NOTE as PLACEMENT
from edgepack.pipeline.faster import Placed, place_for_speed
from edgepack.pipeline.gate import Attempt, InTurn, meet_gate
from edgepack.pipeline.limits import Limits, check_row
from edgepack.pipeline.original import MIXES, Original
from edgepack.pipeline.plan import BuildPlan
from edgepack.pipeline.quantized import notes_as_is, unrounded_sums
from edgepack.pipeline.rows import as_poor, built_row, failed_row, skipped_row
from edgepack.pipeline.settings import BuildSettings
from edgepack.pipeline.stages.compile import compile_for_target, tune_kernels_of
from edgepack.pipeline.stages.embed import EmbeddedRow, embed_row
from edgepack.pipeline.stages.export import freeze_shapes
from edgepack.pipeline.stages.gallery import draw_examples, with_layers, without_samples
from edgepack.pipeline.stages.pack import Packed, deliver_bundle, facts_of, pack_bundle
from edgepack.pipeline.stages.quantize import cast_on_samples
from edgepack.pipeline.stages.samples import sizes_of_pictures
from edgepack.pipeline.targets import as_one_run, how_to_run
from edgepack.quantize import quantize
from edgepack.quantize.correct import quantize_corrected
from edgepack.quantize.imported import in_words, retarget
from edgepack.quantize.layer_sqnr import layer_sqnr
from edgepack.runtime.native import note_built
from edgepack.specs.build import BuildRow, Trial
from edgepack.specs.bundle import LayerRecords
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.target import QuantizationRules, Target
from edgepack.specs.types import Precision
from edgepack.verify.evaluate import Evaluation, evaluate
from edgepack.verify.golden import refuse_wrong
from edgepack.verify.parts import Balance


def build_row(
    plan: BuildPlan, original: Original, target: Target, precision: Precision, runner: StageRunner
) -> BuildRow:
    """Build one bundle and return its row; an error becomes the row's reason."""
    settings = plan.settings
    final = plan.bundle(target, precision)
    if precision not in target.compute.precisions and not settings.strict:
        final.unlink(missing_ok=True)
        return skipped_row(target, precision)
    evaluation: Evaluation | None = None
    trials: tuple[Trial, ...] = ()
    _, notes = how_to_run(target, runner.host)
    if original.selection.notes:
        notes["data"] = "; ".join(original.selection.notes)
    if original.mixes_batch:
        notes["batch"] = MIXES
    try:
        ranges = calibrate_for(plan, original, target, precision, runner)
        attempt = build_attempt(plan, original, target, precision, ranges, target.quantization, "", runner)
        evaluation = attempt.evaluation
        if ranges is not None and settings.method != "plain" and _misses_gate(evaluation, _limits(settings)):
            attempt, trials = _meet_gate(plan, original, target, ranges, attempt, runner)
            evaluation = attempt.evaluation
        elif ranges is not None and _may_place(plan, target):
            placed = _place_for_speed(plan, original, target, ranges, attempt, runner)
            attempt, evaluation = placed.attempt, placed.attempt.evaluation
            notes |= {PLACEMENT: placed.note} if placed.note is not None else {}
        check_row(evaluation, settings, precision, len(trials), original.warnings)
        records = _layer_records(original, target, attempt, runner, notes) if ranges is not None else None
        if attempt.changes:
            engine = ENGINES.get(target.backend)
            title = f"{target.id} {precision}"
            sums = runner.run(unrounded_sums, attempt.compiled, title=title) if engine.unrounded else 0
            notes |= notes_as_is(attempt.changes, sums, engine.title)
        embedded = embed_attempt(plan, original, target, attempt, runner) if settings.embed else None
        packed = _pack(plan, original, target, attempt, embedded, ranges, records, runner)
        if embedded is not None:
            notes["embedded"] = embedded_in_words(embedded.check)
        deliver_bundle(packed, final)
        note_built(packed.sha256)
    except EdgepackError as error:
        final.unlink(missing_ok=True)  # a bundle of an earlier build must not pass for this one's
        return failed_row(target.id, precision, error, evaluation, trials)
    if precision == "int8" and original.warnings:
        notes["calibration"] = "; ".join(finding.message for finding in original.warnings)
    row = built_row(target.id, precision, final, packed, evaluation, attempt.corrected, trials, notes)
    row = dataclasses.replace(row, embedded=embedded.check if embedded is not None else None)
    row = _with_changes(row, plan, original, evaluation, records, runner)
    return _judged(row, evaluation.balance, settings)


def _pack(
    plan: BuildPlan,
    original: Original,
    target: Target,
    attempt: Attempt,
    embedded: EmbeddedRow | None,
    ranges: Ranges | None,
    records: LayerRecords | None,
    runner: StageRunner,
) -> Packed:
    """Pack an attempt, or what became of it with parts of its task in the graph."""
    compiled, golden, verification = attempt.compiled, original.golden, attempt.evaluation.verification
    facts = facts_of(
        plan.name, plan.settings.version, target, compiled, attempt.evaluation, original.selection.evaluation,
        original.source, ranges, records,
    )  # fmt: skip
    if embedded is not None:
        found = embedded.evaluation
        compiled, golden, verification = embedded.compiled, found.golden, found.verification
        facts = embedded.facts(facts)
    title = f"{target.id} {attempt.compiled.precision}"
    return runner.run(pack_bundle, compiled, golden, verification, facts, attempt.graph, title=title)


def _with_changes(
    row: BuildRow,
    plan: BuildPlan,
    original: Original,
    evaluation: Evaluation,
    records: LayerRecords | None,
    runner: StageRunner,
) -> BuildRow:
    """Return the row with which answers changed; with samples of them where a gallery was asked for."""
    if evaluation.changes is None:
        return row
    changes = with_layers(evaluation.changes, records)
    if not plan.settings.gallery:
        return dataclasses.replace(row, changes=without_samples(changes))
    samples, title = original.selection.evaluation, f"{len(changes.examples)} changed samples of {row.target}"
    return dataclasses.replace(row, changes=runner.run(draw_examples, changes, samples, original.model, title=title))


def embed_attempt(
    plan: BuildPlan, original: Original, target: Target, attempt: Attempt, runner: StageRunner
) -> EmbeddedRow:
    """Return an attempt's model with the parts of its task in its graph that were asked for."""
    parts, samples = plan.settings.embed, original.selection.evaluation
    found = embed_row(runner, parts, target, attempt.graph, attempt.compiled, original.golden, samples)
    refuse_wrong(found.evaluation.verification, attempt.compiled.precision)
    return found


def _judged(row: BuildRow, balance: Balance, settings: BuildSettings) -> BuildRow:
    """Return the row as poor where its outputs have lost too much."""
    if row.precision == "fp32" or balance.sqnr_db is None or balance.sqnr_db >= settings.min_sqnr:
        return row
    return as_poor(row, balance, settings.min_sqnr, allowed=settings.allow_poor)


def calibrate_for(
    plan: BuildPlan, original: Original, target: Target, precision: Precision, runner: StageRunner
) -> Ranges | None:
    """Return the activation ranges that int8 needs; refuse what the target does not offer, before any work."""
    if precision not in target.compute.precisions:
        known = ", ".join(target.compute.precisions)
        raise ConfigError(f"{target.id} does not offer {precision}", hint=f"its profile lists {known}")
    build_versions(target)  # raises ToolchainError for a missing engine
    if precision != "int8" or plan.as_is:
        return None
    samples = _calibration(original)
    title = f"{plan.observer} ranges on {len(samples.indices)} samples"
    return runner.run(calibrate, original.model, samples, plan.observer, plan.percentile, title=title)


def build_attempt(
    plan: BuildPlan,
    original: Original,
    target: Target,
    precision: Precision,
    ranges: Ranges | None,
    rules: QuantizationRules,
    detail: str,
    runner: StageRunner,
) -> Attempt:
    """Bring the model to its precision by ``rules``, compile it and evaluate it on the engine that will run it."""
    settings = plan.settings
    title = f"{target.id} {precision}" + (f", {detail}" if detail else "")
    graph = source = original.model
    corrected, changes = None, ""
    if plan.as_is:
        kept = runner.run(retarget, graph, rules, title=title)
        graph, changes = kept.model, in_words(kept.exact, kept.lossy)
    elif ranges is not None and settings.method == "auto":
        samples = _calibration(original)
        corrected = runner.run(quantize_corrected, graph, ranges, rules, samples, settings.effort, title=title)
        graph, source = corrected.model, corrected.source
    elif ranges is not None:
        graph = runner.run(quantize, graph, ranges, rules, title=title)
    elif precision != "fp32":
        samples = original.selection.calibration or original.selection.evaluation
        graph = runner.run(cast_on_samples, graph, precision, samples, title=precision)
    if ENGINES.get(target.backend).fixed_shapes:
        shapes = {**sizes_of_pictures(original.selection.evaluation, graph.inputs), **plan.shapes}
        graph = freeze_shapes(runner, graph, shapes)
    if settings.tune_minutes and not detail:
        tune_kernels_of(runner, graph, target, precision, settings.tune_minutes, settings.seed)
    graph = dataclasses.replace(graph, mixes_batch=original.mixes_batch)
    compiled = runner.run(compile_for_target, graph, target, precision, title=title)
    options, _ = how_to_run(target, runner.host)
    run, options = as_one_run(runs_here(compiled, options), options)
    samples = original.selection.evaluation
    evaluation = runner.run(
        evaluate, run, original.golden, original.outputs, original.parts, samples,
        original.metric, original.metric_code, settings.seed, options,
        title=f"{title} on {len(samples.indices)} samples",
    )  # fmt: skip
    return Attempt(graph, source, compiled, evaluation, corrected, changes)


def _calibration(original: Original) -> SampleSet:
    samples = original.selection.calibration
    if samples is None:
        raise ConfigError("int8 needs samples to calibrate with", hint="add --data")
    return samples


def _limits(settings: BuildSettings) -> Limits:
    return Limits(settings.max_drop, settings.max_change)


def _misses_gate(evaluation: Evaluation, limits: Limits) -> bool:
    return not evaluation.suspect and limits.broken_by(evaluation)


def _meet_gate(
    plan: BuildPlan, original: Original, target: Target, ranges: Ranges, first: Attempt, runner: StageRunner
) -> tuple[Attempt, tuple[Trial, ...]]:
    """Return the attempt that meets the gate, or the first one where none does, and all that were tried."""
    build_with, time = _means(plan, original, target, ranges, runner)
    outcome = meet_gate(
        runner, original.model, ranges, target.quantization, _calibration(original), first,
        _limits(plan.settings), build_with, time if is_this_host(target) else None,
    )  # fmt: skip
    return outcome.attempt or first, outcome.trials


def _means(
    plan: BuildPlan, original: Original, target: Target, ranges: Ranges, runner: StageRunner
) -> tuple[Callable[[QuantizationRules, str], Attempt], InTurn]:
    """Return what builds an int8 attempt by given rules, and what measures the latencies of attempts in turn."""

    def build_with(rules: QuantizationRules, detail: str) -> Attempt:
        return build_attempt(plan, original, target, "int8", ranges, rules, detail, runner)

    def time(attempts: tuple[Attempt, ...], rounds: int) -> tuple[tuple[int, ...], ...]:
        options, _ = how_to_run(target, runner.host)
        models = tuple(attempt.compiled for attempt in attempts)
        title = f"{len(models)} models in turn, {target.id}"
        return runner.run(latencies_in_turn, models, original.golden, options, rounds, title=title)

    return build_with, time


def _may_place(plan: BuildPlan, target: Target) -> bool:
    """Say whether the speed of int8 is compared with fp32's here, and what operators cost is known."""
    settings, table = plan.settings, ENGINES.get(target.backend).int8
    measured = settings.benchmark and is_this_host(target) and "fp32" in target.compute.precisions
    return measured and settings.method != "plain" and table is not None and table.costs is not None


def _place_for_speed(
    plan: BuildPlan, original: Original, target: Target, ranges: Ranges, first: Attempt, runner: StageRunner
) -> Placed:
    """Return the attempt that is kept where int8 is not clearly faster than fp32."""
    build_with, time = _means(plan, original, target, ranges, runner)
    rules = target.quantization
    plain = build_attempt(plan, original, target, "fp32", None, rules, "", runner)
    return place_for_speed(
        runner, original.model, ranges, rules, plain, first, _limits(plan.settings), build_with, time
    )


def _layer_records(
    original: Original, target: Target, attempt: Attempt, runner: StageRunner, notes: dict[str, str]
) -> LayerRecords | None:
    """Return what ``inspect --layers`` shows; None, with a note why, where it cannot be measured: the row stands."""
    samples, title = original.selection.evaluation, f"SQNR of each, {target.id}"
    try:
        return runner.run(layer_sqnr, attempt.source, attempt.graph, samples, title=title)
    except EdgepackError as error:
        notes["layers"] = f"SQNR of each layer was not measured: {error.message}"
        return None
