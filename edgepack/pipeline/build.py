"""build(): the stages in order, each target and precision a row of the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import sweep, write_text
from edgepack.benchmark.measure.rank import median_latencies
from edgepack.calibrate import calibrate
from edgepack.data.split import Selection
from edgepack.device.host import host_facts
from edgepack.embed.check import in_words as embedded_in_words
from edgepack.engines import ENGINES
from edgepack.engines.fallback import build_versions, runs_here
from edgepack.engines.targets import is_this_host
from edgepack.errors import ConfigError, EdgepackError, GateError, RecipeError
from edgepack.execution.events import Events, Silent
from edgepack.execution.open_store import open_store
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.graph.prepare import prepare, prepare_plain
from edgepack.pipeline.command_line import build_command
from edgepack.pipeline.faster import NOTE as PLACEMENT
from edgepack.pipeline.faster import Placed, place_for_speed
from edgepack.pipeline.gate import Attempt, Limits, meet_gate
from edgepack.pipeline.measure_on import measure_on
from edgepack.pipeline.not_faster import explain
from edgepack.pipeline.noted import with_letters
from edgepack.pipeline.pace import Pace
from edgepack.pipeline.plan import BuildPlan, resolve
from edgepack.pipeline.quantized import WITHOUT_INTEGERS, as_asked, notes_as_is
from edgepack.pipeline.rows import (
    as_poor,
    built_row,
    changed_answers,
    failed_row,
    skipped_row,
    with_latency,
    with_ratio_explained,
)
from edgepack.pipeline.settings import AS_IS, BuildSettings, check_max_drop, executed
from edgepack.pipeline.stages.benchmark import Measured, measure_rows_here
from edgepack.pipeline.stages.compile import compile_for_target, tune_kernels_of
from edgepack.pipeline.stages.describe import model_facts
from edgepack.pipeline.stages.embed import EmbeddedRow, embed_row, fold_for_pixels
from edgepack.pipeline.stages.export import export_model, fix_inputs, freeze_shapes, request_of_source, tell_size
from edgepack.pipeline.stages.gallery import draw_examples, with_layers, without_samples
from edgepack.pipeline.stages.lint import lint_before_use
from edgepack.pipeline.stages.pack import deliver_bundle, facts_of, pack_bundle
from edgepack.pipeline.stages.quantize import cast_on_samples
from edgepack.pipeline.stages.samples import (
    check_labels,
    golden_vectors,
    how_to_prepare,
    select_samples,
    sizes_of_pictures,
)
from edgepack.pipeline.targets import as_one_run, how_to_run
from edgepack.pipeline.toolchain import tool_versions
from edgepack.quantize import quantize
from edgepack.quantize.correct import quantize_corrected
from edgepack.quantize.imported import in_words, retarget
from edgepack.quantize.layer_sqnr import layer_sqnr
from edgepack.quantize.output_parts import find_parts
from edgepack.report.html.page import write_report
from edgepack.runtime.native import note_built
from edgepack.specs.build import BuildResult, BuildRow, ModelFacts, Trial
from edgepack.specs.bundle import LayerRecords
from edgepack.specs.data import Finding, Lint, Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import Accuracy
from edgepack.specs.target import QuantizationRules, Target
from edgepack.specs.types import Precision, Wanted
from edgepack.verify.evaluate import Evaluation, evaluate
from edgepack.verify.golden import read_golden, refuse_wrong
from edgepack.verify.make_golden import mixes_batch
from edgepack.verify.metrics import METRICS, default_metric, find_metric, has_own_unit
from edgepack.verify.metrics.user_function import user_metric_code
from edgepack.verify.outputs import StoredOutputs
from edgepack.verify.reference import reference
from edgepack.verify.simplified import compare_simplified

_MIXES = "samples that are run at once depend on each other: a batch gives other answers than its samples"


@dataclass(frozen=True)
class Original:
    """The fp32 model that every row is made from and compared with: its samples, and its own answers to them.

    ``source`` is the model as it was exported, ``model`` as it was simplified. ``metric_code`` stands for the code of
    a user's metric. ``mixes_batch`` says that samples run at once were seen to depend on each other.
    ``parts`` is a file that says what the outputs consist of; ``facts`` is what the report says of the model.
    """

    source: OnnxModel
    model: OnnxModel
    selection: Selection
    golden: Path
    outputs: StoredOutputs
    metric: str
    metric_code: Path | None
    lint: Lint | None
    mixes_batch: bool = False
    parts: Path | None = None
    facts: ModelFacts | None = None

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What the check of the calibration samples warns of."""
        return self.lint.warnings if self.lint is not None else ()


def build(settings: BuildSettings, store: Store | None = None, events: Events | None = None) -> BuildResult:
    """Build every target and precision asked for; return one row for each, and write bundles, results and a report.

    A target that fails costs one row. Raises ``ConfigError``, ``ModelError`` or ``DataError`` when nothing can be
    built at all. What is unchanged since an earlier build comes from ``store``.
    """
    plan = resolve(settings)
    sweep(plan.out, plan.name)
    store, events = store or open_store(), events or Silent()
    store.tell_by(events.note)
    runner = StageRunner(store, plan.out / "logs", events, settings.compile_limit_s, host_facts())
    try:
        return build_planned(plan, prepare_original(plan, runner), runner, _build_rows)
    finally:
        store.save()


def build_planned(
    plan: BuildPlan,
    original: Original,
    runner: StageRunner,
    build_rows: Callable[[BuildPlan, Original, StageRunner], Iterable[BuildRow]],
) -> BuildResult:
    """Build the rows of a plan by ``build_rows``, which keeps their order, measure them and write what they come to."""
    settings = plan.settings
    rows = tuple(build_rows(plan, original, runner))
    measured = Measured()
    if settings.benchmark:
        measured = measure_rows_here(runner, plan.targets, rows, settings.duration_s, settings.seed)
    return _finish(plan, original, rows, measured, runner)


def _build_rows(plan: BuildPlan, original: Original, runner: StageRunner) -> Iterator[BuildRow]:
    """Build one row after the other, and tell how far all of them are."""
    pairs = tuple(plan.rows())
    names = tuple(f"{target.id} {precision}" for target, precision in pairs)
    pace = Pace(names, runner.logs / "durations.json")
    for number, (name, (target, precision)) in enumerate(zip(names, pairs, strict=True), 1):
        runner.events.row(number, len(pairs), name, pace.left_s())
        began, ran = time.monotonic(), len(runner.store.ran)
        yield build_row(plan.of_row(target, precision), original, target, precision, runner)
        pace.finished(time.monotonic() - began, ran=len(runner.store.ran) > ran)


def exit_code(result: BuildResult) -> int:
    """Return what the command ends with: the highest exit code of a row; ConfigError's where none was even tried."""
    if all(row.status == "skipped" for row in result.rows):
        return ConfigError.exit_code
    return max((row.exit_code for row in result.rows), default=0)


def prepare_original(plan: BuildPlan, runner: StageRunner) -> Original:
    """Do what is the same for all rows: export, simplify, choose and check samples, run the fp32 model on them."""
    settings = plan.settings
    code = None
    if settings.metric is not None and settings.metric not in METRICS:
        code = runner.run(user_metric_code, settings.metric, title=settings.metric)
    data = settings.data or settings.eval
    tell_size(runner, settings.recipe, plan.recipe)
    source = export_model(
        runner, settings.model, data, plan.preprocessing, plan.shapes, settings.seed, plan.task, settings.source
    )
    request = request_of_source(runner, plan.request, source)
    source = fix_inputs(runner, source, plan.shapes, settings.constants)
    source = as_asked(runner, source, plan)
    model = runner.run(prepare, source, title=f"opset {source.opset}")
    if "preprocessing" in settings.embed:
        made = request.preprocessing
        model, made = fold_for_pixels(runner, model, made, plan.targets, tuple(map(executed, settings.precisions)))
        request = dataclasses.replace(request, preprocessing=made)
    request = dataclasses.replace(request, task=with_letters(request.task, source))
    try:
        selection = select_samples(runner, request, model.inputs, model)
    except RecipeError as error:
        raise how_to_prepare(error, settings.model) from error
    for note in selection.notes:
        runner.events.note(note)
    samples = selection.evaluation
    metric = settings.metric or default_metric(model.outputs, labelled=samples.labelled, task=samples.task)
    check_labels(samples, model, metric)
    if "preprocessing" not in settings.embed:  # else the two take other inputs, and folding compares them itself
        model = _answering_as(source, model, samples, runner)
    found = None
    if selection.calibration is not None and ("int8" in settings.precisions or settings.strict):
        found = lint_before_use(runner, model, selection, plan.observer, plan.percentile, strict=settings.strict)
    golden = golden_vectors(runner, model, selection, random=data is None)
    whose = "the model's own answers" if plan.as_is else "fp32"
    outputs = runner.run(reference, model, samples, title=f"{whose} on {len(samples.indices)} samples")
    parts = runner.run(find_parts, model, samples, title="what the outputs consist of")
    check_max_drop(settings.max_drop, metric)
    if settings.max_drop is not None and find_metric(metric).needs_labels and not samples.labelled:
        raise ConfigError(
            f"--max-drop limits the drop of {metric}, which needs labels, and the samples have none",
            hint="add labels (class folders, labels.csv or --eval), or limit what changes with --max-change 0.02",
        )
    mixes = mixes_batch(read_golden(golden))
    if mixes:
        runner.events.note(_MIXES)
    facts = _facts(model, runner)
    return Original(source, model, selection, golden, outputs, metric, code, found, mixes, parts, facts)


def _answering_as(source: OnnxModel, model: OnnxModel, samples: SampleSet, runner: StageRunner) -> OnnxModel:
    """Return the simplified ``model`` where it answers to the samples as its ``source`` does, else it unsimplified."""
    found = runner.run(compare_simplified, source, model, samples, title="the simplified model with the exported one")
    if not found.differs:
        return model
    runner.events.note(f"the model is not simplified, which would change its answers to these samples: {found.differs}")
    return runner.run(prepare_plain, source, title="not simplified")


def _facts(model: OnnxModel, runner: StageRunner) -> ModelFacts | None:
    """Return what the report says of the model; None, with a note why, where it cannot be told: no row needs it."""
    try:
        return runner.run(model_facts, model, title="parameters and multiply-adds")
    except EdgepackError as error:
        runner.events.note(f"parameters and multiply-adds are not known: {error.message}")
        return None


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
    _, notes = how_to_run(target)
    if original.selection.notes:
        notes["data"] = "; ".join(original.selection.notes)
    if original.mixes_batch:
        notes["batch"] = _MIXES
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
        _check(evaluation, settings, precision, len(trials), original.warnings)
        records = _layer_records(original, target, attempt, runner, notes) if ranges is not None else None
        embedded = embed_attempt(plan, original, target, attempt, runner) if settings.embed else None
        facts = facts_of(
            plan.name, settings.version, target, attempt.compiled, evaluation, original.selection.evaluation,
            original.source, ranges, records,
        )  # fmt: skip
        compiled, golden, verification = attempt.compiled, original.golden, evaluation.verification
        if embedded is not None:
            found = embedded.evaluation
            compiled, golden, verification = embedded.compiled, found.golden, found.verification
            facts = embedded.facts(facts)
            notes["embedded"] = embedded_in_words(embedded.check)
        packed = runner.run(
            pack_bundle, compiled, golden, verification, facts, attempt.graph, title=f"{target.id} {precision}"
        )
        deliver_bundle(packed, final)
        note_built(packed.sha256)
    except EdgepackError as error:
        final.unlink(missing_ok=True)  # a bundle of an earlier build must not pass for this one's
        return failed_row(target.id, precision, error, evaluation, trials)
    if attempt.changes:
        notes |= notes_as_is(attempt.changes)
    if precision == "int8" and original.warnings:
        notes["calibration"] = "; ".join(finding.message for finding in original.warnings)
    row = built_row(target.id, precision, final, packed, evaluation, attempt.corrected, trials, notes)
    row = dataclasses.replace(row, embedded=embedded.check if embedded is not None else None)
    row = _with_changes(row, plan, original, evaluation, records, runner)
    return as_poor(row, settings.min_sqnr, allowed=settings.allow_poor) if _is_poor(row, settings.min_sqnr) else row


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


def _is_poor(row: BuildRow, least_db: float) -> bool:
    return row.precision == "int8" and row.balanced_sqnr_db is not None and row.balanced_sqnr_db < least_db


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
    options, _ = how_to_run(target)
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
) -> tuple[Callable[[QuantizationRules, str], Attempt], Callable[[tuple[Attempt, ...]], tuple[int, ...]]]:
    """Return what builds an int8 attempt by given rules, and what measures the median latencies of attempts in ns."""

    def build_with(rules: QuantizationRules, detail: str) -> Attempt:
        return build_attempt(plan, original, target, "int8", ranges, rules, detail, runner)

    def time(attempts: tuple[Attempt, ...]) -> tuple[int, ...]:
        options, _ = how_to_run(target)
        models = tuple(attempt.compiled for attempt in attempts)
        title = f"{len(models)} models in turn, {target.id}"
        return runner.run(median_latencies, models, original.golden, options, title=title)

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


def _check(
    evaluation: Evaluation, settings: BuildSettings, precision: Precision, tried: int, warnings: tuple[Finding, ...]
) -> None:
    """Raise ``VerificationError`` or ``GateError`` when the row must not become a bundle."""
    refuse_wrong(evaluation.verification, precision)
    found = evaluation.accuracy
    proven = next((finding for finding in warnings if finding.proven), None)
    if found is not None and proven is not None:
        raise GateError(proven.message, hint=proven.hint)
    if evaluation.suspect:
        raise GateError(
            evaluation.suspect,
            hint="check the order of the classes with 'edgepack lint'; if all is right, --metric agreement",
        )
    _check_change(evaluation, settings.max_change, precision, tried)
    if settings.max_drop is None:
        return
    if found is None:
        raise GateError(
            f"the gate --max-drop cannot be checked: {evaluation.accuracy_reason}", hint="add --eval with labels"
        )
    if found.drops_more_than(settings.max_drop):
        raise GateError(
            _dropped(found, precision, settings.max_drop)
            + (f"; none of {tried} models with operators in fp32 passed" if tried else ""),
            hint=WITHOUT_INTEGERS
            if AS_IS in settings.precisions
            else "leave --method plain out: corrections and the search for layers to keep in fp32 come with auto"
            if precision == "int8" and settings.method == "plain"
            else "give more calibration samples, another --observer, or a larger --max-drop",
        )


def _dropped(found: Accuracy, precision: Precision, most: float) -> str:
    """Return what was lost in words, in the metric's own unit; of one that is a fraction in percentage points."""
    low, high = found.ci95
    if has_own_unit(found.metric):
        return (
            f"{precision} makes {found.metric} worse by {found.drop:.4g} ({found.fp32:.4g} to {found.value:.4g}, "
            f"n={found.n}, 95 % interval {low:.4g} to {high:.4g}), more than the {most:g} allowed"
        )
    change = "raises" if found.value > found.fp32 else "drops"
    return (
        f"{precision} {change} {found.metric} by {100 * found.drop:.2f} points ({100 * found.fp32:.2f} to "
        f"{100 * found.value:.2f} %, n={found.n}, 95 % interval {100 * low:.2f} to {100 * high:.2f}), more "
        f"than the {100 * most:g} allowed"
    )


def _check_change(evaluation: Evaluation, most: float | None, precision: Precision, tried: int) -> None:
    """Raise ``GateError`` when more answers change than may."""
    if most is None or precision == "fp32":
        return
    change = evaluation.change
    if change is None:
        raise GateError(
            f"the gate --max-change cannot be checked: {evaluation.change_reason}",
            hint="say by --task or a recipe what the model is for, or use --min-sqnr, or --metric and --max-drop",
        )
    if change.more_than(most):
        raise GateError(
            f"{precision} changes {changed_answers(change)}, more than the {100 * most:g} % allowed"
            + (f"; none of {tried} models with operators in fp32 passed" if tried else ""),
            hint="give more calibration samples, or a larger --max-change",
        )


def _finish(
    plan: BuildPlan,
    original: Original,
    rows: tuple[BuildRow, ...],
    measured: Measured,
    runner: StageRunner,
) -> BuildResult:
    """Measure on other machines where that was asked for, write results, report and build.json; return the result."""
    named = (
        dataclasses.replace(
            row, model=plan.name, source_sha256=original.source.sha256, command=command, facts=original.facts
        )
        for row, command in zip(rows, _commands(plan), strict=True)
    )
    finished = _with_ratios(explain(runner, (_with_measurement(row, measured) for row in named)))
    results = tuple(row.result for row in measured.rows.values() if row.result is not None)
    if plan.settings.measure_on:
        hosts, seconds, seed = plan.settings.measure_on, plan.settings.duration_s, plan.settings.seed
        finished, others = measure_on(hosts, finished, seconds, seed, runner.events.note)
        results += others
    for result in results:
        name = f"{plan.name}-{result.target}-{result.precision}.json"
        write_text(plan.out / "results" / name, documents.to_json(result))
    report = plan.out / "report.html"
    built = BuildResult(
        name=plan.name,
        rows=finished,
        warnings=(*original.selection.notes, *(finding.message for finding in original.warnings)),
        out=str(plan.out),
        report=str(report),
        versions=tool_versions(),
        stages_run=len(runner.store.ran),
        stages_reused=len(runner.store.reused),
        lint=original.lint,
    )
    write_text(plan.out / "build.json", documents.to_json(built))
    write_report(results, finished, report)  # last: it is the largest, and made of the others
    return built


def _with_ratios(rows: tuple[BuildRow, ...]) -> tuple[BuildRow, ...]:
    """Return the rows, each explained beside the fp32 one of its target."""
    bases = {row.target: row for row in rows if row.precision == "fp32"}
    return tuple(with_ratio_explained(row, bases.get(row.target)) for row in rows)


def _commands(plan: BuildPlan) -> Iterator[tuple[str, ...]]:
    """Yield the command that makes each row's bundle alone, in the order of the rows."""
    names = {target.id: name for target, name in zip(plan.targets, plan.settings.targets, strict=True)}
    for target, precision in plan.rows():
        settings = plan.of_row(target, precision).settings
        own: tuple[Wanted, ...] = settings.precisions if plan.as_is else (precision,)
        yield build_command(dataclasses.replace(settings, targets=(names[target.id],), precisions=own, out=None))


def _with_measurement(row: BuildRow, measured: Measured) -> BuildRow:
    if row.status != "ok":
        return row
    found = measured.rows.get(f"{row.target} {row.precision}")
    if found is None:
        reason = row.notes.get("latency") or measured.reason or "not measured: --no-benchmark"
        return dataclasses.replace(row, notes={**row.notes, "latency": reason})
    if found.result is None:
        return dataclasses.replace(row, notes={**row.notes, "latency": f"not measured: {found.reason}"})
    ratio, interval = (found.speedup.ratio, found.speedup.ci95) if found.speedup else (None, None)
    return with_latency(row, found.result, ratio, interval, "there is no fp32 bundle of this target to compare with")
