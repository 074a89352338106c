"""Looks at a calibration set before it is used: what would make ranges wrong, or accuracy look better than it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgepack.calibrate.lint_contents import check_channels, check_labels, find_duplicates, find_overlap
from edgepack.calibrate.lint_first_layer import check_first_layer
from edgepack.calibrate.lint_preprocessing import try_alternatives
from edgepack.calibrate.lint_stability import check_stability
from edgepack.calibrate.samples import ignored_files, read_labels
from edgepack.calibrate.survey import survey_samples
from edgepack.specs import Diagnostic, Observer, OnnxModel, Progress, SampleSet, no_progress


def lint(
    model: OnnxModel,
    calibration: SampleSet,
    evaluation: SampleSet | None,
    observer: Observer,
    percentile: float,
    out: Path,
    progress: Progress = no_progress,
) -> tuple[Diagnostic, ...]:
    """Return what should be changed about the samples, as warnings, and what was measured, as notes.

    ``model`` is the prepared fp32 model. Checked: ignored files; copies within the set and of evaluation samples; blank
    samples, constant channels; labels and classes; inputs far too large or small for the model; normalisation and
    order of channels, by trying the usual ones; whether the samples are enough for ``observer``. ``out`` is a folder
    for scratch files. Raises ``DataError`` as ``read_samples`` does.
    """
    found = _ignored(calibration)
    survey = survey_samples(model, calibration, _step(progress, "lint: calibration samples", calibration))
    found += find_duplicates(survey)
    if evaluation is not None:
        other = survey_samples(model, evaluation, _step(progress, "lint: evaluation samples", evaluation))
        found += find_overlap(survey, other)
    found += check_channels(survey)
    labels = read_labels(calibration) if calibration.labelled else None
    if labels is not None:
        found += check_labels(model, calibration, labels)
    found += check_first_layer(model, calibration, out)
    found += try_alternatives(
        model, calibration, survey, labels, lambda done, total: progress("lint: preprocessing", done, total)
    )
    found += check_stability(model, calibration, observer, percentile, out, progress)
    order = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(found, key=lambda diagnostic: order[diagnostic.severity]))


def _step(progress: Progress, what: str, samples: SampleSet) -> Callable[[int], None]:
    total = len(samples.indices)
    return lambda done: progress(what, done, total)


def _ignored(samples: SampleSet) -> list[Diagnostic]:
    names = ignored_files(samples)
    if not names:
        return []
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [Diagnostic("note", f"{len(names)} files in {samples.source} are no samples and were ignored: {shown}")]
