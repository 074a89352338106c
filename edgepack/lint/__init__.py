"""Looks at a calibration set before it is used: what would make ranges wrong, or accuracy look better than it is.

To add a check, add a module with a function from ``Inspected`` to ``Found`` and a line to ``CHECKS``, which nothing
else names; an installed package adds its own by an entry point in the group ``edgepack.lint_checks``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgepack.base.extensions import Table
from edgepack.base.stage import stage
from edgepack.errors import DataError, EdgepackError
from edgepack.specs.data import Finding, Lint, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Observer, Progress, no_progress

if TYPE_CHECKING:
    from edgepack.lint.survey import Survey
    from edgepack.specs.types import Array


@dataclass(frozen=True)
class Surveyed:
    """Samples with what one reading of them showed; ``title`` names them.

    ``labels`` are class numbers [samples]; None without labels, and for labels of another kind.
    """

    title: str
    samples: SampleSet
    survey: Survey
    labels: Array | None


@dataclass(frozen=True)
class Inspected:
    """What every check is given: the prepared fp32 model, the samples, and how ranges will be chosen on them.

    ``evaluation`` are the samples that accuracy is measured on, None where there are none to compare with. ``scratch``
    is a folder for a check's own files; ``progress`` is told of work that takes long.
    """

    model: OnnxModel
    calibration: Surveyed
    evaluation: Surveyed | None
    observer: Observer
    percentile: float
    scratch: Path
    progress: Progress


@dataclass(frozen=True)
class Found:
    """What a check found, and how often it ran the model for it."""

    findings: tuple[Finding, ...] = ()
    model_runs: int = 0


Check: TypeAlias = Callable[[Inspected], Found]

# In the order in which they run and their findings are shown, warnings first.
CHECKS: Table[Check] = Table(
    "lint check",
    "edgepack.lint_checks",
    {
        "files": "edgepack.lint.files:check",
        "copies": "edgepack.lint.copies:check",
        "overlap": "edgepack.lint.overlap:check",
        "scale": "edgepack.lint.scale:check",
        "same_encoding": "edgepack.lint.same_encoding:check",
        "channels": "edgepack.lint.channels:check",
        "outliers": "edgepack.lint.outliers:check",
        "labels": "edgepack.lint.labels:check",
        "preprocessing": "edgepack.lint.preprocessing:check",
        "boxes": "edgepack.lint.boxes:check",
        "masks": "edgepack.lint.masks:check",
        "letters": "edgepack.lint.letters:check",
        "texts": "edgepack.lint.texts:check",
        "first_layer": "edgepack.lint.first_layer:check",
        "stability": "edgepack.lint.stability:check",
    },
)


@stage("lint")
def lint(
    model: OnnxModel,
    calibration: SampleSet,
    evaluation: SampleSet | None,
    observer: Observer,
    percentile: float,
    out: Path,
    progress: Progress = no_progress,
) -> Lint:
    """Return what should be changed about the samples, as warnings, and what was measured, as notes.

    ``model`` is the prepared fp32 model. Checked: ignored files; copies within the set and of evaluation samples; blank
    samples, constant channels; labels and classes; values far too large or small for the model; normalisation and
    order of channels, by trying the usual ones; whether the samples are enough for ``observer``. The model runs at most
    so often, however many samples there are: 11 x 16 + 4 x 32 + 2 x 208 times with other encodings (a third of that
    when the present one is good; a detector or a reader of text 12 times, and 12 with each other one where it finds
    little; a segmenter 4 times with each, and 12 with at most 3 of them and its own), 16 for the first layer, 64 + 256
    for halves (64 when they agree). Every sample is read once, of pictures at most 2000 of each set are decoded.
    ``out`` is a folder for scratch files. A check of another package that fails is a warning. Raises ``DataError`` as
    ``read_samples`` and ``calibrate`` do.
    """
    if not calibration.indices:
        raise DataError("no samples to check", hint="give at least one; a few hundred are typical")
    inspected = Inspected(
        model=model,
        calibration=_survey(model, calibration, "calibration samples", progress),
        evaluation=_survey(model, evaluation, "evaluation samples", progress) if evaluation is not None else None,
        observer=observer,
        percentile=percentile,
        scratch=out,
        progress=progress,
    )
    found = [_run(name, inspected) for name in CHECKS.names()]
    order = {"warning": 0, "note": 1}
    findings = [finding for one in found for finding in one.findings]
    return Lint(
        model_sha256=model.sha256,
        data_sha256=calibration.sha256,
        eval_sha256=evaluation.sha256 if evaluation is not None else None,
        samples=len(calibration.indices),
        eval_samples=len(evaluation.indices) if evaluation is not None else None,
        observer=observer,
        model_runs=sum(one.model_runs for one in found),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.severity])),
    )


def _run(name: str, inspected: Inspected) -> Found:
    """Run one check; one of another package that fails, or cannot be imported, is a warning of its own."""
    if name in CHECKS.own:
        return CHECKS.get(name)(inspected)
    try:
        found = CHECKS.get(name)(inspected)
        if not isinstance(found, Found):
            raise TypeError(f"it returned a {type(found).__name__}, not a Found")
    except EdgepackError as error:
        return Found((Finding(name, "warning", error.message, error.hint),))
    except Exception as error:  # untrusted code: whatever it raises
        package = CHECKS.package(name)
        text = f"the lint check {name!r} of the package {package} failed: {type(error).__name__}: {error}"
        return Found((Finding(name, "warning", text, f"update or remove {package}"),))
    return found


def _survey(model: OnnxModel, samples: SampleSet, title: str, progress: Progress) -> Surveyed:
    from edgepack.data.labels import is_array
    from edgepack.data.samples import read_any_labels
    from edgepack.lint.survey import class_labels, survey_samples

    total = len(samples.indices)
    survey = survey_samples(model, samples, lambda done: progress(f"lint: {title}", done, total))
    labels: Any = read_any_labels(samples) if samples.labelled else None
    labels = class_labels(labels) if labels is not None and is_array(labels) else None
    return Surveyed(title, samples, survey, labels)
