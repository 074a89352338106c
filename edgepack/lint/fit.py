"""Whether labelled samples are encoded as the model was trained: what can be told without a set to calibrate with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.base.stage import stage
from edgepack.data.labels import is_array
from edgepack.data.samples import read_any_labels
from edgepack.lint import CHECKS, Found, Inspected, Surveyed
from edgepack.lint.preprocessing import answers_right
from edgepack.lint.survey import Survey, class_labels
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Progress, no_progress

_BY_LABELS = ("preprocessing", "boxes", "masks", "letters")
_NOTHING_READ = Survey((), (), None, (), (), ())


@stage("fit")
def judge_fit(model: OnnxModel, samples: SampleSet, out: Path, progress: Progress = no_progress) -> Found:
    """Return what labelled pictures that a recipe prepares say of its encoding of pixels, see ``lint``.

    A few of them are read, those that the model is run on; where most of a dozen classes are right, no more. ``out`` is
    a folder for scratch files. Raises ``DataError``.
    """
    assert samples.preprocessing is not None, "asked of pictures"
    labels: Any = read_any_labels(samples)
    numbers = class_labels(labels) if is_array(labels) else None
    if is_array(labels) and numbers is None:
        return Found()
    judged = Surveyed("labelled samples", samples, _NOTHING_READ, numbers)
    inspected = Inspected(model, judged, None, "minmax", 100.0, out, progress)
    if numbers is not None and answers_right(inspected):
        return Found()
    found = [CHECKS.get(name)(inspected) for name in _BY_LABELS if numbers is not None or name != "preprocessing"]
    return Found(tuple(finding for one in found for finding in one.findings), sum(one.model_runs for one in found))
