"""One stage alone, as the commands ``export``, ``lint``, ``calibrate``, ``quantize``, ``compile``, ``pack`` run it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgepack.base import documents
from edgepack.bundle.job import WrittenJob, write_job
from edgepack.calibrate import calibrate
from edgepack.calibrate.merge import choose_from, measure_statistics, merge, read_statistics
from edgepack.calibrate.observers import choose_observer, observers_of_statistics
from edgepack.calibrate.ranges import read_ranges
from edgepack.data.recipes import load_recipe
from edgepack.data.split import SampleRequest, Selection
from edgepack.engines.fallback import runs_here
from edgepack.engines.targets import load_target
from edgepack.errors import ConfigError
from edgepack.execution.runner import StageRunner
from edgepack.graph.load import read_proto
from edgepack.graph.passes import is_quantized
from edgepack.pipeline.plan import chosen_task
from edgepack.pipeline.stages.compile import compile_for_target
from edgepack.pipeline.stages.export import export_and_prepare, load_onnx
from edgepack.pipeline.stages.lint import lint_before_use, lint_selection
from edgepack.pipeline.stages.pack import facts_of, pack_bundle
from edgepack.pipeline.stages.samples import golden_vectors, select_samples
from edgepack.pipeline.targets import how_to_run
from edgepack.quantize import quantize
from edgepack.specs.data import Lint, Ranges, Recipe, SampleStatistics
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.types import Observer, Precision
from edgepack.verify.evaluate import evaluate
from edgepack.verify.golden import refuse_wrong
from edgepack.verify.reference import reference

_ALL = 10_000_000


def _select(
    runner: StageRunner,
    model: OnnxModel,
    data: str | None,
    recipe: Recipe | None,
    samples: int | None,
    seed: int,
    skip_bad: int,
) -> Selection:
    """Return samples of ``data``, all of them for one purpose: nothing is held back."""
    preprocessing, task = recipe.preprocessing if recipe else None, chosen_task(None, recipe)
    request = SampleRequest(None, data, preprocessing, eval_samples=samples, seed=seed, task=task, skip_bad=skip_bad)
    return select_samples(runner, request, model.inputs, model)


def calibrate_model(
    runner: StageRunner,
    path: Path,
    data: str,
    recipe_name: str | None,
    samples: int | None,
    observer: Observer | None,
    percentile: float | None,
    seed: int,
    *,
    strict: bool = False,
    skip_bad: int = 0,
) -> Ranges:
    """Return the ranges of a .onnx on ``samples`` samples of ``data`` (all of them when None), which are checked."""
    recipe = load_recipe(recipe_name) if recipe_name else None
    chosen, share = choose_observer(recipe, observer, percentile)
    model = load_onnx(runner, path)
    selection = _select(runner, model, data, recipe, samples, seed, skip_bad)
    lint_before_use(runner, model, _alone(selection), chosen, share, strict=strict)
    title = f"{chosen} ranges on {len(selection.evaluation.indices)} samples"
    return runner.run(calibrate, model, selection.evaluation, chosen, share, title=title)


def measure_model(
    runner: StageRunner,
    path: Path,
    data: str,
    recipe_name: str | None,
    samples: int | None,
    seed: int,
    skip_bad: int = 0,
) -> SampleStatistics:
    """Return what is counted of a .onnx on ``samples`` samples of ``data`` (all of them when None)."""
    recipe = load_recipe(recipe_name) if recipe_name else None
    model = load_onnx(runner, path)
    selection = _select(runner, model, data, recipe, samples, seed, skip_bad)
    title = f"statistics of {len(selection.evaluation.indices)} samples"
    return runner.run(measure_statistics, model, selection.evaluation, title=title)


def make_job(runner: StageRunner, path: Path, recipe_name: str | None) -> WrittenJob:
    """Return the job by which devices count a .onnx over samples of theirs, which are prepared as the recipe says."""
    recipe = load_recipe(recipe_name) if recipe_name else None
    model = load_onnx(runner, path)
    task = chosen_task(None, recipe)
    named = task.input.get("tokenizer") if task is not None else None
    tokenizer = Path(named) if isinstance(named, str) and named else None
    preprocessing = recipe.preprocessing if recipe is not None else None
    return runner.run(write_job, model, preprocessing, task, tokenizer, title=path.name)


def merge_statistics(paths: Sequence[Path]) -> SampleStatistics:
    """Return the statistics of all samples that the documents have counted. Raises ``DataError``, ``ConfigError``."""
    return merge([read_statistics(path) for path in paths])


def ranges_of(statistics: SampleStatistics, observer: Observer | None, percentile: float | None) -> Ranges:
    """Return the ranges that an observer, the first one that needs no samples unless told, chooses from statistics."""
    chosen, share = choose_observer(None, observer or observers_of_statistics()[0], percentile)
    return choose_from(statistics, chosen, share)


def lint_model(
    runner: StageRunner,
    source: str,
    data: str,
    eval_data: str | None,
    recipe_name: str | None,
    samples: int | None,
    observer: Observer | None,
    percentile: float | None,
    seed: int,
    skip_bad: int = 0,
) -> Lint:
    """Return what should be changed about ``samples`` samples of ``data`` (all of them when None).

    With ``eval_data`` all samples of that are compared with them. Raises what the checks raise.
    """
    recipe = load_recipe(recipe_name) if recipe_name else None
    chosen, share = choose_observer(recipe, observer, percentile)
    model = export_and_prepare(runner, source, {}, data, recipe_name, skip_bad=skip_bad)
    if eval_data is None:
        selection = _alone(_select(runner, model, data, recipe, samples, seed, skip_bad))
    else:
        preprocessing, task = recipe.preprocessing if recipe else None, chosen_task(None, recipe)
        request = SampleRequest(
            data, eval_data, preprocessing, samples=samples, default=_ALL, seed=seed, task=task, skip_bad=skip_bad
        )
        selection = select_samples(runner, request, model.inputs, model)
    return lint_selection(runner, model, selection, chosen, share)


def _alone(selection: Selection) -> Selection:
    """Return samples that were selected for one purpose as calibration samples with no others to compare with."""
    return dataclasses.replace(selection, calibration=selection.evaluation, unseen=False)


def quantize_model(runner: StageRunner, path: Path, ranges: Path, target: str) -> OnnxModel:
    """Return the int8 model. Raises ``ConfigError`` when the ranges are of another model."""
    rules = load_target(target).quantization
    found = read_ranges(ranges)
    model = load_onnx(runner, path)
    if found.model_sha256 != model.sha256:
        raise ConfigError(
            f"{ranges} was measured on a different model than {path}", hint="run 'edgepack calibrate' on this file"
        )
    return runner.run(quantize, model, found, rules, title=target)


def compile_file(runner: StageRunner, path: Path, target: str, precision: Precision | None) -> CompiledModel:
    """Return the engine's own files of a .onnx that is in ``precision`` already; None takes what the graph is in.

    Raises ``ConfigError`` for int8 of a float graph, and for another precision of a quantized one.
    """
    profile = load_target(target)
    model = load_onnx(runner, path)
    quantized = is_quantized(read_proto(model, weights=False))
    if precision is None:
        precision = "int8" if quantized else "fp32"
    if quantized != (precision == "int8"):
        raise ConfigError(
            f"{path.name} {'computes in int8' if quantized else 'has no quantized operators'}, not in {precision}",
            hint="leave --precision out" if quantized else "quantize it first: edgepack quantize",
        )
    return runner.run(compile_for_target, model, profile, precision, title=f"{target} {precision}")


def pack_folder(
    runner: StageRunner,
    folder: Path,
    model_path: Path,
    target: str,
    data: str | None,
    recipe_name: str | None,
    seed: int,
    name: str | None,
    version: str,
    skip_bad: int = 0,
) -> Path:
    """Verify a folder that ``edgepack compile`` wrote against its fp32 model, and return the packed bundle."""
    profile = load_target(target)
    index = folder / "compiled.json"
    if not index.is_file():
        raise ConfigError(f"{folder} has no compiled.json", hint="give a folder that 'edgepack compile' wrote")
    compiled = documents.from_json(CompiledModel, index.read_bytes(), str(index), folder)
    recipe = load_recipe(recipe_name) if recipe_name else None
    model = load_onnx(runner, model_path)
    selection = _select(runner, model, data, recipe, None, seed, skip_bad)
    samples = selection.evaluation
    golden = golden_vectors(runner, model, selection)
    outputs = runner.run(reference, model, samples, title=f"fp32 on {len(samples.indices)} samples")
    options, _ = how_to_run(profile, runner.host)
    title = f"{target} {compiled.precision}"
    evaluation = runner.run(
        evaluate, runs_here(compiled, options), golden, outputs, None, samples, "agreement", None, seed, options,
        title=f"{title} on {len(samples.indices)} samples",
    )  # fmt: skip
    refuse_wrong(evaluation.verification, compiled.precision)
    unlabelled = dataclasses.replace(
        evaluation, accuracy=None, accuracy_reason="accuracy on labels was not measured by 'edgepack pack'"
    )
    facts = facts_of(name or model_path.stem, version, profile, compiled, unlabelled, samples, model, None, None)
    return runner.run(pack_bundle, compiled, golden, evaluation.verification, facts, None, title=title).path
