"""Brings a model to the precision of a row."""

from __future__ import annotations

import itertools
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.data.samples import read_samples
from edgepack.graph import overflow
from edgepack.graph.cast import cast
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Precision, Progress, no_progress


@stage("cast")
def cast_on_samples(
    model: OnnxModel, precision: Precision, samples: SampleSet, out: Path, progress: Progress = no_progress
) -> OnnxModel:
    """Cast to fp16 or bf16, looking at up to 16 of ``samples`` for what would overflow."""
    feeds = list(itertools.islice(read_samples(samples, model.inputs), overflow.SAMPLES))
    return cast(model, precision, feeds, out, progress)
