"""Looks at a calibration set before it is used: what would make ranges wrong, or accuracy look better than it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgepack.data.samples import ignored_files, read_labels
from edgepack.errors import DataError
from edgepack.lint.channels import check_channels, check_scale
from edgepack.lint.copies import find_duplicates, find_overlap
from edgepack.lint.first_layer import check_first_layer
from edgepack.lint.labels import check_labels, class_labels
from edgepack.lint.preprocessing import PreprocessingCheck, check_preprocessing, compare_encodings
from edgepack.lint.stability import check_stability
from edgepack.lint.survey import Survey, picture_input, survey_samples
from edgepack.specs import Array, Finding, Lint, Observer, OnnxModel, Progress, SampleSet, no_progress


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
    when the present one is good), 16 for the first layer, 64 + 256 for halves (64 when they agree). Every sample is
    read once, of pictures at most 2000 of each set are decoded. ``out`` is a folder for scratch files. Raises
    ``DataError`` as ``read_samples`` and ``calibrate`` do.
    """
    if not calibration.indices:
        raise DataError("no samples to check", hint="give at least one; a few hundred are typical")
    findings = _ignored(calibration)
    survey = survey_samples(model, calibration, _step(progress, "lint: calibration samples", calibration))
    findings += find_duplicates(survey)
    labels = _labels(calibration)
    other, other_labels = None, None
    if evaluation is not None:
        other = survey_samples(model, evaluation, _step(progress, "lint: evaluation samples", evaluation))
        other_labels = _labels(evaluation)
        findings += [*find_overlap(survey, other), *check_scale(survey, other)]
        if calibration.preprocessing is None and picture_input(model) is not None:
            findings += compare_encodings(survey, other)
    findings += check_channels(survey, other)
    if labels is not None:
        findings += check_labels(model, calibration, labels, other_labels)
    fit = _preprocessing(model, (calibration, survey, labels), (evaluation, other, other_labels), progress)
    findings += fit.findings
    runs = fit.model_runs
    if not fit.judged:
        found, more = check_first_layer(model, calibration, out)
        findings += found
        runs += more
    found, more = check_stability(model, calibration, observer, percentile, out, progress)
    order = {"warning": 0, "note": 1}
    return Lint(
        model_sha256=model.sha256,
        data_sha256=calibration.sha256,
        eval_sha256=evaluation.sha256 if evaluation is not None else None,
        samples=len(calibration.indices),
        eval_samples=len(evaluation.indices) if evaluation is not None else None,
        observer=observer,
        model_runs=runs + more,
        findings=tuple(sorted(findings + found, key=lambda finding: order[finding.severity])),
    )


def _preprocessing(
    model: OnnxModel,
    calibration: tuple[SampleSet, Survey, Array | None],
    evaluation: tuple[SampleSet | None, Survey | None, Array | None],
    progress: Progress,
) -> PreprocessingCheck:
    """Check the calibration samples, or those for evaluation when only these have labels: both are encoded alike."""
    samples, survey, labels = evaluation
    if calibration[2] is None and samples is not None and survey is not None and labels is not None:
        return check_preprocessing(model, samples, "evaluation samples", survey, labels, progress)
    samples, survey, labels = calibration
    return check_preprocessing(model, samples, "calibration samples", survey, labels, progress)


def _labels(samples: SampleSet) -> Array | None:
    return class_labels(read_labels(samples)) if samples.labelled else None


def _step(progress: Progress, what: str, samples: SampleSet) -> Callable[[int], None]:
    total = len(samples.indices)
    return lambda done: progress(what, done, total)


def _ignored(samples: SampleSet) -> list[Finding]:
    names = ignored_files(samples)
    if not names:
        return []
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [
        Finding("files", "note", f"{len(names)} files in {samples.source} are not samples and were ignored: {shown}")
    ]
