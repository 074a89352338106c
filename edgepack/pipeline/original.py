"""Prepares what all rows of a build share: the fp32 model, its samples, and its own answers to them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgepack.data.split import Selection
from edgepack.errors import ConfigError, EdgepackError, RecipeError
from edgepack.execution.runner import StageRunner
from edgepack.graph.prepare import prepare, prepare_plain
from edgepack.pipeline.noted import with_activation, with_letters
from edgepack.pipeline.plan import BuildPlan
from edgepack.pipeline.present import look_for_samples
from edgepack.pipeline.quantized import as_asked
from edgepack.pipeline.settings import check_max_drop, executed
from edgepack.pipeline.stages.describe import model_facts
from edgepack.pipeline.stages.embed import fold_for_pixels
from edgepack.pipeline.stages.export import (
    export_model,
    fix_inputs,
    request_of_source,
    tell_size,
    use_outputs,
)
from edgepack.pipeline.stages.lint import fit_before_use, lint_before_use
from edgepack.pipeline.stages.samples import (
    check_labels,
    golden_vectors,
    how_to_prepare,
    note_of_classes,
    select_samples,
)
from edgepack.quantize.output_parts import find_parts
from edgepack.specs.build import ModelFacts
from edgepack.specs.data import Finding, Lint, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.verify.golden import read_golden
from edgepack.verify.make_golden import mixes_batch
from edgepack.verify.metrics import METRICS, default_metric, find_metric
from edgepack.verify.metrics.user_function import user_metric_code
from edgepack.verify.outputs import StoredOutputs
from edgepack.verify.reference import reference
from edgepack.verify.simplified import compare_simplified

MIXES = "samples that are run at once depend on each other: a batch gives other answers than its samples"


@dataclass(frozen=True)
class Original:
    """The fp32 model that every row is made from and compared with: its samples, and its own answers to them.

    ``source`` is the model as it was exported, ``model`` as it was simplified. ``metric_code`` stands for the code of
    a user's metric. ``mixes_batch`` says that samples run at once were seen to depend on each other.
    ``parts`` is a file that says what the outputs consist of; ``facts`` is what the report says of the model.
    ``unfit`` are warnings of the preprocessing of a build that has no ``lint``.
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
    unfit: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What the check of the samples warns of."""
        return self.lint.warnings if self.lint is not None else self.unfit


def prepare_original(plan: BuildPlan, runner: StageRunner) -> Original:
    """Do what is the same for all rows: export, simplify, choose and check samples, run the fp32 model on them."""
    settings = plan.settings
    look_for_samples(plan)
    code = None
    if settings.metric is not None and settings.metric not in METRICS:
        code = runner.run(user_metric_code, settings.metric, title=settings.metric)
    data = settings.data or settings.eval
    tell_size(runner, settings.recipe, plan.recipe)
    source = export_model(
        runner, settings.model, data, plan.preprocessing, plan.shapes, settings.seed, plan.task, settings.source,
        settings.skip_bad,
    )  # fmt: skip
    request = request_of_source(runner, plan.request, source)
    source = fix_inputs(runner, source, plan.shapes, settings.constants)
    source = use_outputs(runner, source, plan.recipe)
    source = as_asked(runner, source, plan)
    model = runner.run(prepare, source, title=f"opset {source.opset}")
    if "preprocessing" in settings.embed:
        made = request.preprocessing
        model, made = fold_for_pixels(runner, model, made, plan.targets, tuple(map(executed, settings.precisions)))
        request = dataclasses.replace(request, preprocessing=made)
    task = with_activation(with_letters(request.task, source), source, pictures=request.preprocessing is not None)
    request = dataclasses.replace(request, task=task)
    try:
        selection = select_samples(runner, request, model.inputs, model)
    except RecipeError as error:
        raise how_to_prepare(error, settings.model, model) from error
    for note in selection.notes:
        runner.events.note(note)
    samples = selection.evaluation
    metric = settings.metric or default_metric(model.outputs, labelled=samples.labelled, task=samples.task)
    check_labels(samples, model, metric)
    if (said := note_of_classes(samples, model)) is not None:
        runner.events.note(said)
    if "preprocessing" not in settings.embed:  # else the two take other inputs, and folding compares them itself
        model = answering_as(source, model, samples, runner)
    found = None
    if selection.calibration is not None and ("int8" in settings.precisions or settings.strict):
        found = lint_before_use(runner, model, selection, plan.observer, plan.percentile, strict=settings.strict)
    # Of a model whose own source states its preprocessing nothing is tried.
    unfit = fit_before_use(runner, model, samples) if found is None and settings.recipe is not None else ()
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
        runner.events.note(MIXES)
    facts = _facts(model, runner)
    return Original(source, model, selection, golden, outputs, metric, code, found, mixes, parts, facts, unfit)


def answering_as(source: OnnxModel, model: OnnxModel, samples: SampleSet, runner: StageRunner) -> OnnxModel:
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
