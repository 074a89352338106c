"""build(): the stages in order, each target and precision a row of the result."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import write_text
from edgepack.build.command_line import build_command
from edgepack.build.gate import Attempt, hold_gate
from edgepack.build.rows import failed_row, with_corrections, with_evaluation, with_latency
from edgepack.build.settings import METRICS, BuildSettings, check_settings, parse_shape
from edgepack.build.stages import (
    calibrate_step,
    cast_step,
    check_callable,
    choose_step,
    compile_step,
    correct_step,
    evaluate_step,
    export_step,
    freeze_step,
    golden_step,
    layers_step,
    prepare_step,
    quantize_step,
    reference_step,
    times_step,
    tune_step,
)
from edgepack.build.stages.benchmark import Measured, measure_step
from edgepack.build.stages.lint import lint_before_use
from edgepack.build.stages.pack import deliver_bundle, pack_step
from edgepack.bundle.pack import BundleFacts
from edgepack.data.recipes import load_recipe
from edgepack.data.split import DEFAULT_SAMPLES, SampleRequest, Selection
from edgepack.device.host import can_run, has_isa, host_facts, is_this_host, saturates
from edgepack.device.profiles import load_target
from edgepack.engines import FIXED_SHAPES, SELF_CONTAINED
from edgepack.engines.fallback import LABEL, build_versions, measured_with
from edgepack.errors import ConfigError, DataError, EdgepackError, GateError, VerificationError
from edgepack.execution.events import Events, Silent
from edgepack.execution.runner import Workshop, code_digest, tool_versions
from edgepack.execution.store import Store, default_folder
from edgepack.report.html.page import write_report
from edgepack.specs import (
    BuildResult,
    BuildRow,
    Finding,
    LayerRecords,
    Lint,
    MeasuredAccuracy,
    Observer,
    OnnxModel,
    Precision,
    QuantizationRules,
    Ranges,
    Recipe,
    RunOptions,
    SampleSet,
    Target,
    Trial,
)
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.outputs import StoredOutputs


@dataclass(frozen=True)
class Shared:
    """What all targets of a build have in common."""

    settings: BuildSettings
    recipe: Recipe | None
    source: OnnxModel
    model: OnnxModel
    selection: Selection
    golden: Path
    reference: StoredOutputs
    metric: str
    observer: Observer
    percentile: float
    lint: Lint | None


def build(settings: BuildSettings, store: Store | None = None, events: Events | None = None) -> BuildResult:
    """Build every target and precision asked for; return one row for each, and write bundles, results and a report.

    A target that fails costs one row. Raises ``ConfigError``, ``ModelError`` or ``DataError`` when nothing can be
    built at all. What is unchanged since an earlier build comes from ``store``.
    """
    settings = check_settings(settings)
    targets = tuple(load_target(name) for name in settings.targets)
    _refuse_same_ids(targets)
    store = store or Store(default_folder())
    events = events or Silent()
    assert settings.out is not None
    out = Path(settings.out)
    shop = Workshop(store, out / "logs", events, settings.compile_limit_s, code_digest(store))
    try:
        shared = share(settings, shop)
        rows = [build_row(shared, target, precision, shop) for target in targets for precision in settings.precisions]
        measured = measure_step(shop, targets, tuple(rows), settings) if settings.benchmark else Measured()
    finally:
        store.save()
    return _finish(shared, tuple(rows), measured, shop, out)


def exit_code(result: BuildResult) -> int:
    """Return what the command ends with: the highest exit code of a row."""
    return max((row.exit_code for row in result.rows), default=0)


def share(settings: BuildSettings, shop: Workshop) -> Shared:
    """Do what is the same for all targets: export, prepare, choose samples, fp32 outputs."""
    recipe = load_recipe(settings.recipe) if settings.recipe else None
    if settings.metric is not None and settings.metric not in METRICS:
        shop.run("metric", settings.metric, {"metric": settings.metric}, check_callable, settings.metric)
    shapes = {name: parse_shape(name, text) for name, text in settings.shapes.items()}
    preprocessing = recipe.preprocessing if recipe else None
    samples = settings.data or settings.eval
    source = export_step(shop, settings.model, samples, preprocessing, shapes, settings.seed)
    model = prepare_step(shop, source)
    request = SampleRequest(
        data=settings.data,
        eval_data=settings.eval,
        preprocessing=preprocessing,
        samples=settings.samples,
        default=recipe.samples if recipe else DEFAULT_SAMPLES,
        eval_samples=settings.eval_samples,
        seed=settings.seed,
        shapes=shapes,
    )
    selection = choose_step(shop, request, model.inputs)
    for note in selection.notes:
        shop.events.note(note)
    observer = settings.observer or (recipe.observer if recipe else "minmax")
    percentile = settings.percentile or (recipe.percentile if recipe else 99.99)
    found = None
    if selection.calibration is not None and ("int8" in settings.precisions or settings.strict):
        found = lint_before_use(shop, model, selection, observer, percentile, strict=settings.strict)
    golden = _golden(shop, model, selection, random=settings.data is None and settings.eval is None)
    reference = reference_step(shop, model, selection.evaluation)
    metric = settings.metric or _default_metric(model, selection.evaluation)
    return Shared(settings, recipe, source, model, selection, golden, reference, metric, observer, percentile, found)


def build_row(shared: Shared, target: Target, precision: Precision, shop: Workshop) -> BuildRow:
    """Build one bundle and return its row; an error becomes the row's reason."""
    settings = shared.settings
    assert settings.out is not None
    assert settings.name is not None
    final = Path(settings.out) / f"{settings.name}-{target.id}-{precision}.edgepack"
    evaluation: Evaluation | None = None
    trials: tuple[Trial, ...] = ()
    notes = _where(target)[1]
    try:
        ranges = ranges_of(shared, target, precision, shop)
        attempt = build_attempt(shared, target, precision, ranges, target.quantization, "", shop)
        evaluation = attempt.evaluation
        if precision == "int8" and settings.method != "plain" and _misses_gate(evaluation, settings):
            attempt, trials = _hold_gate(shared, target, ranges, attempt, shop)
            evaluation = attempt.evaluation
        _check(evaluation, settings, precision, len(trials))
        facts = _facts(shared, target, attempt, ranges)
        if precision == "int8":
            facts = dataclasses.replace(facts, records=_layer_records(shared, target, attempt, shop, notes))
        packed = pack_step(shop, attempt.compiled, shared.golden, evaluation, facts, attempt.graph)
        deliver_bundle(packed, final, shop.store)
    except EdgepackError as error:
        final.unlink(missing_ok=True)  # a bundle of an earlier build must not pass for this one's
        return failed_row(target.id, precision, error, evaluation, trials)
    if precision == "int8" and _warnings(shared):
        notes["calibration"] = "; ".join(finding.message for finding in _warnings(shared))
    if trials:
        fewest = min(len(trial.left) for trial in trials if trial.passed)
        notes["gate"] = f"{fewest} layers run in fp32 so that the gate holds; {len(trials)} models were tried"
    row = BuildRow(
        target.id, precision, "ok", bundle=str(final), sha256=packed.sha256, size_bytes=packed.size_bytes, notes=notes,
        trials=trials,
    )  # fmt: skip
    if attempt.corrected is not None:
        row = with_corrections(row, attempt.corrected)
    return with_evaluation(row, evaluation)


def ranges_of(shared: Shared, target: Target, precision: Precision, shop: Workshop) -> Ranges | None:
    """Return the activation ranges that int8 needs; refuse what the target does not offer, before any work."""
    if precision not in target.compute.precisions:
        known = ", ".join(target.compute.precisions)
        raise ConfigError(f"{target.id} does not offer {precision}", hint=f"its profile lists {known}")
    build_versions(target)  # raises ToolchainError for a missing engine
    if precision != "int8":
        return None
    samples = shared.selection.calibration
    assert samples is not None, "check_settings asked for data"
    return calibrate_step(shop, shared.model, samples, shared.observer, shared.percentile)


def build_attempt(
    shared: Shared,
    target: Target,
    precision: Precision,
    ranges: Ranges | None,
    rules: QuantizationRules,
    detail: str,
    shop: Workshop,
) -> Attempt:
    """Bring the model to its precision by ``rules``, compile it and evaluate it on the engine that will run it."""
    graph = shared.model
    samples = shared.selection.evaluation
    title = f"{target.id} {precision}" + (f", {detail}" if detail else "")
    source, corrected = graph, None
    calibration = shared.selection.calibration
    if ranges is not None and calibration is not None and shared.settings.method == "auto":
        corrected = correct_step(shop, graph, ranges, rules, calibration, title)
        graph, source = corrected.model, corrected.source
    elif ranges is not None:
        graph = quantize_step(shop, graph, ranges, rules, title)
    elif precision != "fp32":
        graph = cast_step(shop, graph, precision, shared.selection.calibration or samples)
    if target.backend in FIXED_SHAPES:
        graph = freeze_step(
            shop, graph, {name: parse_shape(name, text) for name, text in shared.settings.shapes.items()}
        )
    if shared.settings.tune_minutes and not detail:
        tune_step(shop, graph, target, precision, shared.settings.tune_minutes, shared.settings.seed)
    compiled = compile_step(shop, graph, target, precision, title)
    key = {"reference": shared.model.sha256}
    evaluation = evaluate_step(
        shop, compiled, target, shared.golden, shared.reference, samples, shared.metric, shared.settings.seed,
        _where(target)[0], key, title,
    )  # fmt: skip
    return Attempt(graph, source, compiled, evaluation, corrected)


def _misses_gate(evaluation: Evaluation, settings: BuildSettings) -> bool:
    found = evaluation.accuracy
    return settings.max_drop is not None and found is not None and found.drop > settings.max_drop


def _hold_gate(
    shared: Shared, target: Target, ranges: Ranges | None, first: Attempt, shop: Workshop
) -> tuple[Attempt, tuple[Trial, ...]]:
    settings = shared.settings
    assert ranges is not None
    assert settings.max_drop is not None
    assert shared.selection.calibration is not None
    outcome = hold_gate(
        shop, shared.model, ranges, target.quantization, shared.selection.calibration, first, settings.max_drop,
        lambda rules, detail: build_attempt(shared, target, "int8", ranges, rules, detail, shop),
        (lambda attempts: trial_times(shared, target, attempts, shop)) if is_this_host(target) else None,
    )  # fmt: skip
    return outcome.attempt or first, outcome.trials


def trial_times(shared: Shared, target: Target, attempts: tuple[Attempt, ...], shop: Workshop) -> tuple[int, ...]:
    """Return the median latency of each attempt on this host, in ns."""
    models = tuple(attempt.compiled for attempt in attempts)
    return times_step(shop, models, shared.golden, _where(target)[0], f"{len(models)} models in turn, {target.id}")


def _layer_records(
    shared: Shared, target: Target, attempt: Attempt, shop: Workshop, notes: dict[str, str]
) -> LayerRecords | None:
    """Return what ``inspect --layers`` shows; None, with a note why, where it cannot be measured: the row stands."""
    try:
        return layers_step(
            shop, attempt.source, attempt.graph, shared.selection.evaluation, f"SQNR of each, {target.id}"
        )
    except EdgepackError as error:
        notes["layers"] = f"SQNR of each layer was not measured: {error.message}"
        return None


def _golden(shop: Workshop, model: OnnxModel, selection: Selection, *, random: bool) -> Path:
    try:
        return golden_step(shop, model, selection.evaluation)
    except DataError as error:
        if not random:
            raise
        hint = "give real samples with --data, or the sizes of dynamic axes with --shape NAME=1x576"
        raise DataError(f"random inputs do not suit this model: {error.message}", hint=hint) from error


def _default_metric(model: OnnxModel, samples: SampleSet) -> str:
    if not samples.labelled:
        return "top1"  # _accuracy says that it was not measured, for want of labels
    shape = model.outputs[0].shape
    if len(shape) != 2 or shape[1] == 1:
        raise ConfigError(
            "the samples have labels, but the model's first output is not class scores [batch, classes]",
            hint="add --metric module:function(outputs, labels) -> float, or --metric sqnr",
        )
    return "top1"


def _where(target: Target) -> tuple[RunOptions, dict[str, str]]:
    """Return how to run a target's files here, and what the row must say when this host is not the device."""
    if is_this_host(target):
        return RunOptions(), {}
    host = host_facts()
    notes = {
        "verification": f"numerics verified on host CPU ({host.cpu}); latency not measured: no such device here",
        "latency": "not measured: no such device here",
    }
    if target.engine.build_on == "device":
        notes["verification"] = f"{LABEL}, fp32 sums ({host.cpu}); the engine is built and verified on the device"
        return RunOptions(device="CPU", optimization="off"), notes
    if target.quantization.saturates and not saturates(host):
        notes["saturation"] = (
            "the device adds int8 products in 16 bits, this host does not; weights are chosen so that none clips"
        )
    missing = has_isa(target, host)
    if missing and target.arch == host.arch:
        notes["isa"] = f"this host lacks {', '.join(missing)}"
    if target.backend in SELF_CONTAINED and not can_run(target, host):
        notes["code"] = (
            "what was run here is the same graph, compiled by the same rules for this host; the machine code in the "
            "bundle is the device's and was not run"
        )
    return RunOptions(device="CPU"), notes


def _check(evaluation: Evaluation, settings: BuildSettings, precision: Precision, tried: int) -> None:
    """Raise ``VerificationError`` or ``GateError`` when the row must not become a bundle."""
    wrong = [o for o in evaluation.verification.outputs if not o.passed]
    if wrong:
        raise VerificationError(
            f"{precision}: the output {wrong[0].name!r} is wrong: {wrong[0].note or 'out of tolerance'}"
        )
    if settings.max_drop is None:
        return
    found = evaluation.accuracy
    if found is None:
        raise GateError(
            f"the gate --max-drop cannot be checked: {evaluation.accuracy_reason}", hint="add --eval with labels"
        )
    if found.drop > settings.max_drop:
        low, high = found.ci95
        raise GateError(
            f"{precision} drops {found.metric} by {100 * found.drop:.2f} points ({100 * found.fp32:.2f} to "
            f"{100 * found.value:.2f} %, n={found.n}, 95 % interval {100 * low:.2f} to {100 * high:.2f}), more "
            f"than the {100 * settings.max_drop:g} allowed"
            + (f"; none of {tried} models with layers in fp32 passed" if tried else ""),
            hint="give more calibration samples, another --observer, or a larger --max-drop",
        )


def _facts(shared: Shared, target: Target, attempt: Attempt, ranges: Ranges | None) -> BundleFacts:
    settings, compiled, evaluation = shared.settings, attempt.compiled, attempt.evaluation
    close = evaluation.closeness
    assert settings.name is not None
    measured = MeasuredAccuracy(
        accuracy=evaluation.accuracy,
        sqnr_db=close.sqnr_db,
        cosine=close.cosine,
        agreement=close.agreement,
        n=close.n,
        engine=measured_with(compiled.model, evaluation.verification),
        isa=evaluation.verification.isa,
        note=evaluation.accuracy_reason,
    )
    return BundleFacts(
        name=settings.name,
        version=settings.version,
        target=target,
        precision=compiled.model.precision,
        preprocessing=shared.selection.evaluation.preprocessing,
        classes=shared.selection.evaluation.classes,
        layers={},
        accuracy=measured,
        toolchain=tool_versions(),
        source_sha256=shared.source.sha256,
        calibration_sha256=ranges.data_sha256 if ranges else None,
    )


def _refuse_same_ids(targets: tuple[Target, ...]) -> None:
    ids = [target.id for target in targets]
    for name in ids:
        if ids.count(name) > 1:
            raise ConfigError(f"two targets have the id {name!r}", hint="give each profile its own id")


def _finish(shared: Shared, rows: tuple[BuildRow, ...], measured: Measured, shop: Workshop, out: Path) -> BuildResult:
    """Write results, report and build.json; return the result."""
    assert shared.settings.name is not None
    named = (
        dataclasses.replace(row, model=shared.settings.name, source_sha256=shared.source.sha256, command=command)
        for row, command in zip(rows, _commands(shared.settings), strict=True)
    )
    finished = tuple(_with_measurement(row, measured) for row in named)
    results = tuple(row.result for row in measured.rows.values() if row.result is not None)
    for result in results:
        name = f"{shared.settings.name}-{result.target}-{result.precision}.json"
        write_text(out / "results" / name, documents.to_json(result))
    report = out / "report.html"
    write_report(results, finished, report)
    built = BuildResult(
        name=shared.settings.name,
        rows=finished,
        warnings=(*shared.selection.notes, *(finding.message for finding in _warnings(shared))),
        out=str(out),
        report=str(report),
        versions=tool_versions(),
        stages_run=len(shop.store.ran),
        stages_reused=len(shop.store.reused),
        lint=shared.lint,
    )
    write_text(out / "build.json", documents.to_json(built))
    return built


def _commands(settings: BuildSettings) -> Iterator[tuple[str, ...]]:
    """Yield the command that makes each row's bundle alone, in the order of the rows."""
    for target, precision in itertools.product(settings.targets, settings.precisions):
        yield build_command(dataclasses.replace(settings, targets=(target,), precisions=(precision,), out=None))


def _warnings(shared: Shared) -> tuple[Finding, ...]:
    return shared.lint.warnings if shared.lint is not None else ()


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
