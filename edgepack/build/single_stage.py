"""One stage alone, as the commands ``export``, ``lint``, ``calibrate``, ``quantize``, ``compile``, ``pack`` run it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from edgepack.base import documents
from edgepack.build.stages import (
    Compiled,
    calibrate_step,
    choose_step,
    compile_step,
    evaluate_step,
    export_step,
    golden_step,
    prepare_step,
    quantize_step,
    reference_step,
)
from edgepack.build.stages.lint import lint_before_use, lint_step
from edgepack.build.stages.pack import pack_step
from edgepack.bundle.pack import BundleFacts
from edgepack.calibrate.ranges import read_ranges
from edgepack.data.recipes import load_recipe
from edgepack.data.split import SampleRequest, Selection
from edgepack.device.profiles import load_target
from edgepack.engines.fallback import measured_with
from edgepack.errors import ConfigError, VerificationError
from edgepack.execution.runner import Workshop, tool_versions
from edgepack.specs import (
    CompiledModel,
    Lint,
    MeasuredAccuracy,
    Observer,
    OnnxModel,
    Precision,
    Ranges,
    Recipe,
    RunOptions,
)

_ALL = 10_000_000


def load_step(shop: Workshop, path: Path) -> OnnxModel:
    """Return the checked ONNX file of a user; it is loaded in a child process because it may be hostile."""
    from edgepack.errors import ModelError

    if path.suffix != ".onnx":
        raise ModelError(f"{path} is not an ONNX file", hint="make one with 'edgepack export MODEL -o model.onnx'")
    return export_step(shop, str(path), None, None, {}, 0)


def export_and_prepare(
    shop: Workshop, source: str, shapes: Mapping[str, tuple[int | str, ...]], data: str | None, recipe: str | None
) -> OnnxModel:
    """Return the checked, simplified fp32 model."""
    found = load_recipe(recipe) if recipe else None
    return prepare_step(shop, export_step(shop, source, data, found.preprocessing if found else None, shapes, 0))


def _select(
    shop: Workshop, model: OnnxModel, data: str | None, recipe: Recipe | None, samples: int | None, seed: int
) -> Selection:
    """Return samples of ``data``, all of them for one purpose: nothing is held back."""
    preprocessing = recipe.preprocessing if recipe else None
    request = SampleRequest(None, data, preprocessing, eval_samples=samples, seed=seed)
    return choose_step(shop, request, model.inputs)


def calibrate_model(
    shop: Workshop,
    path: Path,
    data: str,
    recipe_name: str | None,
    samples: int | None,
    observer: Observer | None,
    percentile: float | None,
    seed: int,
    *,
    strict: bool = False,
) -> Ranges:
    """Return the ranges of a .onnx on ``samples`` samples of ``data`` (all of them when None), which are checked."""
    recipe = load_recipe(recipe_name) if recipe_name else None
    model = load_step(shop, path)
    selection = _select(shop, model, data, recipe, samples, seed)
    chosen, share = _observer(recipe, observer, percentile)
    lint_before_use(shop, model, _alone(selection), chosen, share, strict=strict)
    return calibrate_step(shop, model, selection.evaluation, chosen, share)


def lint_model(
    shop: Workshop,
    source: str,
    data: str,
    eval_data: str | None,
    recipe_name: str | None,
    samples: int | None,
    observer: Observer | None,
    percentile: float | None,
    seed: int,
) -> Lint:
    """Return what should be changed about ``samples`` samples of ``data`` (all of them when None).

    With ``eval_data`` all samples of that are compared with them. Raises what the checks raise.
    """
    recipe = load_recipe(recipe_name) if recipe_name else None
    model = export_and_prepare(shop, source, {}, data, recipe_name)
    if eval_data is None:
        selection = _alone(_select(shop, model, data, recipe, samples, seed))
    else:
        preprocessing = recipe.preprocessing if recipe else None
        request = SampleRequest(data, eval_data, preprocessing, samples=samples, default=_ALL, seed=seed)
        selection = choose_step(shop, request, model.inputs)
    return lint_step(shop, model, selection, *_observer(recipe, observer, percentile))


def _alone(selection: Selection) -> Selection:
    """Return samples that were selected for one purpose as calibration samples with no others to compare with."""
    return dataclasses.replace(selection, calibration=selection.evaluation, unseen=False)


def _observer(recipe: Recipe | None, observer: Observer | None, percentile: float | None) -> tuple[Observer, float]:
    return (
        observer or (recipe.observer if recipe else "minmax"),
        percentile or (recipe.percentile if recipe else 99.99),
    )


def quantize_model(shop: Workshop, path: Path, ranges: Path, target: str) -> OnnxModel:
    """Return the int8 model. Raises ``ConfigError`` when the ranges are of another model."""
    rules = load_target(target).quantization
    found = read_ranges(ranges)
    model = load_step(shop, path)
    if found.model_sha256 != model.sha256:
        raise ConfigError(
            f"{ranges} was measured on a different model than {path}", hint="run 'edgepack calibrate' on this file"
        )
    return quantize_step(shop, model, found, rules, target)


def compile_file(shop: Workshop, path: Path, target: str, precision: Precision) -> CompiledModel:
    """Return the engine's own files of a .onnx that is in ``precision`` already."""
    profile = load_target(target)
    return compile_step(shop, load_step(shop, path), profile, precision, f"{target} {precision}").model


def pack_folder(
    shop: Workshop,
    folder: Path,
    model_path: Path,
    target: str,
    data: str | None,
    recipe_name: str | None,
    seed: int,
    name: str | None,
    version: str,
) -> Path:
    """Verify a folder that ``edgepack compile`` wrote against its fp32 model, and return the packed bundle."""
    profile = load_target(target)
    index = folder / "compiled.json"
    if not index.is_file():
        raise ConfigError(f"{folder} has no compiled.json", hint="give a folder that 'edgepack compile' wrote")
    compiled = documents.from_json(CompiledModel, index.read_bytes(), str(index), folder)
    key = ",".join(shop.store.sha256(folder / file) for file in compiled.files if (folder / file).is_file())
    recipe = load_recipe(recipe_name) if recipe_name else None
    model = load_step(shop, model_path)
    selection = _select(shop, model, data, recipe, None, seed)
    golden = golden_step(shop, model, selection.evaluation)
    stored = reference_step(shop, model, selection.evaluation)
    wrapped = Compiled(compiled, key)
    evaluation = evaluate_step(
        shop,
        wrapped,
        profile,
        golden,
        stored,
        selection.evaluation,
        "agreement",
        seed,
        RunOptions(device="CPU", optimization="off") if profile.engine.build_on == "device" else RunOptions(),
        {"fp32": model.sha256},
        f"{target} {compiled.precision}",
    )
    wrong = [o for o in evaluation.verification.outputs if not o.passed]
    if wrong:
        raise VerificationError(f"the output {wrong[0].name!r} is wrong: {wrong[0].note or 'out of tolerance'}")
    close = evaluation.closeness
    facts = BundleFacts(
        name=name or model_path.stem,
        version=version,
        target=profile,
        precision=compiled.precision,
        preprocessing=selection.evaluation.preprocessing,
        classes=selection.evaluation.classes,
        layers={},
        accuracy=MeasuredAccuracy(
            accuracy=None,
            sqnr_db=close.sqnr_db,
            cosine=close.cosine,
            agreement=close.agreement,
            n=close.n,
            engine=measured_with(compiled, evaluation.verification),
            isa=evaluation.verification.isa,
            note="accuracy on labels was not measured by 'edgepack pack'",
        ),
        toolchain=tool_versions(),
        source_sha256=model.sha256,
        calibration_sha256=None,
    )
    return pack_step(shop, wrapped, golden, evaluation, facts, None).path
