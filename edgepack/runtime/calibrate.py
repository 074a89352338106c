"""Measures a calibration job on a device: with numpy and ONNX Runtime, over samples that stay where they are."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.stage import stage
from edgepack.bundle.job import open_job
from edgepack.calibrate.merge import count
from edgepack.data.samples import find_samples, reads_elsewhere, take_samples
from edgepack.errors import RecipeError
from edgepack.specs.data import SampleStatistics
from edgepack.specs.types import Progress, UserSource, no_progress


def _reads_elsewhere(_job: Path, data: UserSource, *_others: object) -> bool:
    return reads_elsewhere(data)


@stage("statistics", tracks=_reads_elsewhere)
def measure_job(
    job: Path, data: UserSource, samples: int | None, seed: int, out: Path, progress: Progress = no_progress
) -> SampleStatistics:
    """Return what ``measure_statistics`` counts of the job's model on ``samples`` samples of ``data``, all when None.

    They are those that a builder with the same data, number and seed takes. ``out`` has the job's files meanwhile.
    Raises what ``open_job`` raises, ``DataError`` for the samples, ``ModelError`` when ONNX Runtime refuses the model.
    """
    with open_job(job, out) as (read, model):
        try:
            found = find_samples(data, model.inputs, read.preprocessing, task=read.task)
        except RecipeError as error:
            raise RecipeError(error.message, hint="make the job again with --recipe, on the builder") from error
        chosen = found if samples is None else take_samples(found, samples, seed)
        return count(model, None, read.plan, chosen, model.path.parent, progress)
