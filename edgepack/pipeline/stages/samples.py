"""Which samples calibrate and evaluate, and the fp32 model's answers to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgepack.data.preprocess import picture_shape
from edgepack.data.samples import read_any_labels
from edgepack.data.split import RANDOM_INPUTS, SampleRequest, Selection, choose_samples, random_inputs, with_shapes
from edgepack.data.suggest import ModelFacts, suggest
from edgepack.errors import DataError, RecipeError
from edgepack.execution.runner import StageRunner
from edgepack.export import is_onnx
from edgepack.pipeline.stages.export import short
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.verify.make_golden import make_golden
from edgepack.verify.metrics import find_metric

_GOLDEN_SAMPLES = 4


def select_samples(
    runner: StageRunner, request: SampleRequest, inputs: tuple[TensorSpec, ...], model: OnnxModel | None = None
) -> Selection:
    """Return calibration and evaluation samples; without any data, random inputs evaluate.

    The graph of ``model`` says what its whole-number inputs mean.
    """
    notes: tuple[str, ...] = ()
    if request.data is None and request.eval_data is None:
        sized = with_shapes(inputs, request.shapes)
        drawn = runner.run(random_inputs, sized, model, request.seed, title="random inputs")
        request = dataclasses.replace(request, eval_data=str(drawn.path))
        notes = (
            f"no data was given: numerics are verified on {RANDOM_INPUTS} random inputs, accuracy is not measured",
            *drawn.notes,
            *_free_sizes(sized),
        )
    selection = runner.run(choose_samples, request, inputs, title=short(request.data or request.eval_data or ""))
    return dataclasses.replace(selection, notes=(*notes, *selection.notes))


def _free_sizes(inputs: tuple[TensorSpec, ...]) -> Iterator[str]:
    """Yield a note for each input whose sizes nobody gave: random inputs are 1 there, which no user's thing is."""
    for spec in inputs:
        free = [dim for dim in spec.shape[spec.batched :] if isinstance(dim, str)]
        if free:
            size = 224 if len(spec.shape) == 4 else 128  # of a picture, or of a sequence
            shape = "x".join(
                [*(["N"] * spec.batched), *(str(size if isinstance(d, str) else d) for d in spec.shape[spec.batched :])]
            )
            yield (
                f"{', '.join(free)} of {spec.name!r} {'are' if free[1:] else 'is'} 1 in random inputs, and every "
                f"figure, latency too, is for that size: give yours, as --shape {spec.name}={shape}"
            )


def check_labels(samples: SampleSet, model: OnnxModel, metric: str) -> None:
    """Raise ``DataError`` for labels that cannot be those of the model's classes, before anything is run on them.

    What a metric over class scores would find in the end: a label that none of the model's classes has.
    """
    scores = model.outputs[0].shape
    known = len(scores) == 2 and isinstance(scores[1], int) and scores[1] > 1
    record = find_metric(metric)
    if not (known and samples.labelled and record.needs_scores and record.needs_labels):
        return
    labels = read_any_labels(samples)
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu" or not labels.size:
        return
    low, high, classes = int(labels.min()), int(labels.max()), int(scores[1])
    if low >= 0 and high < classes:
        return
    names = f" ({len(samples.classes)} class folders or names)" if samples.classes else ""
    raise DataError(
        f"the labels of {samples.source} are from {low} to {high}{names}, and the model has {classes} classes",
        hint="give labels in the order of the model's classes, counted from 0; or --metric agreement, which needs none",
    )


def note_of_classes(samples: SampleSet, model: OnnxModel) -> str | None:
    """Return what is to be said where samples name fewer classes than the model has; None where that is not so."""
    scores = model.outputs[0].shape
    of_classes = samples.task is None or samples.task.kind.endswith("classification")
    if not (of_classes and samples.classes and len(scores) == 2 and isinstance(scores[1], int)):
        return None
    if len(samples.classes) >= scores[1] or scores[1] == 1:
        return None
    return (
        f"{samples.source} names {len(samples.classes)} classes and the model has {scores[1]}: where the others belong "
        "is not known, and names may stand for other classes; give all in a labels.txt or the recipe's classes"
    )


def how_to_prepare(error: RecipeError, source: str, model: OnnxModel) -> RecipeError:
    """Return the error for samples that no recipe prepares, with the lines to type for the model of ``source``."""
    path = source if is_onnx(Path(source)) else "model.onnx"
    first = f"'edgepack export {source} -o {path}', then " if path != source else ""
    inputs, outputs = ({spec.name: spec.shape for spec in specs} for specs in (model.inputs, model.outputs))
    found = suggest(ModelFacts(Path(source).stem, inputs, outputs))
    if not found:
        own = "none is known for this model: begin one with 'edgepack recipes new own.toml' and add --recipe own.toml"
        return RecipeError(error.message, hint=own)
    known = f"add --recipe {found[0].recipe} ({found[0].sure}: {found[0].why}), or " if not found[0].change else ""
    own = f"write one for the model with {first}'edgepack recipes suggest {path} -o own.toml' and add --recipe own.toml"
    return RecipeError(error.message, hint=f"{known}{own}; 'edgepack recipes' lists all")


def sizes_of_pictures(samples: SampleSet, inputs: tuple[TensorSpec, ...]) -> dict[str, tuple[int | str, ...]]:
    """Return the shape of the only input as the samples' pictures have it, its batch as it was; nothing for others.

    An engine that compiles for known shapes needs no other word of the user.
    """
    if samples.preprocessing is None or len(inputs) != 1 or len(inputs[0].shape) != 4:
        return {}
    made = picture_shape(samples.preprocessing)
    return {inputs[0].name: (inputs[0].shape[0], *made)} if all(isinstance(size, int) for size in made) else {}


def golden_vectors(runner: StageRunner, model: OnnxModel, selection: Selection, *, random: bool = False) -> Path:
    """Return golden vectors: a few samples and the fp32 model's outputs for them; ``random`` if nobody gave them."""
    samples = selection.evaluation
    count = min(_GOLDEN_SAMPLES, len(samples.indices))
    try:
        return runner.run(make_golden, model, samples, count, title=f"{count} golden vectors")
    except DataError as error:
        if not random:
            raise
        hint = "give real samples with --data, or the sizes of dynamic axes with --shape NAME=1x576"
        raise DataError(f"random inputs do not suit this model: {error.message}", hint=hint) from error
