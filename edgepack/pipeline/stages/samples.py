"""Which samples calibrate and evaluate, and the fp32 model's answers to them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgepack.data.split import RANDOM_INPUTS, SampleRequest, Selection, choose_samples, random_inputs, with_shapes
from edgepack.errors import DataError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.stages.export import short
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.verify.make_golden import make_golden

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
        )
    selection = runner.run(choose_samples, request, inputs, title=short(request.data or request.eval_data or ""))
    return dataclasses.replace(selection, notes=(*notes, *selection.notes))


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
