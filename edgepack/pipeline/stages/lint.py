"""Checks the calibration samples before they are used: warnings are shown at once, or are errors on demand."""

from __future__ import annotations

from edgepack.data.split import Selection
from edgepack.errors import DataError, EdgepackError
from edgepack.execution.runner import StageRunner
from edgepack.lint import lint
from edgepack.lint.fit import judge_fit
from edgepack.specs.data import Finding, Lint, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Observer


def lint_selection(
    runner: StageRunner, model: OnnxModel, selection: Selection, observer: Observer, percentile: float
) -> Lint:
    """Return what should be changed about the calibration samples. Raises ``DataError`` where there are none."""
    calibration = selection.calibration
    if calibration is None:
        raise DataError("there are no calibration samples to check", hint="give some with --data")
    evaluation = selection.evaluation if selection.unseen else None
    title = f"{len(calibration.indices)} calibration samples"
    return runner.run(lint, model, calibration, evaluation, observer, percentile, title=title)


def lint_before_use(
    runner: StageRunner, model: OnnxModel, selection: Selection, observer: Observer, percentile: float, *, strict: bool
) -> Lint | None:
    """Return what ``lint_selection`` finds; warnings are shown at once, and ``strict`` raises ``DataError`` for them.

    Work goes on without it when it fails: what is wrong with a sample or the model, the next stages say of their rows.
    Not so with ``strict``, which raises what it failed with.
    """
    try:
        found = lint_selection(runner, model, selection, observer, percentile)
    except EdgepackError as error:
        if strict:
            raise
        runner.events.note(f"the calibration samples were not checked: {error.message}")
        return None
    for finding in found.warnings:
        runner.events.note(f"{finding.message}. Hint: {finding.hint}")
    if strict:
        refuse_warnings(found)
    return found


def fit_before_use(runner: StageRunner, model: OnnxModel, samples: SampleSet) -> tuple[Finding, ...]:
    """Return the warnings that labelled pictures give of a recipe's preprocessing; they are shown at once.

    For builds in which nothing is calibrated: ``lint_before_use`` says this too. As there, work goes on where it fails.
    """
    if not samples.labelled or samples.preprocessing is None:
        return ()
    try:
        found = runner.run(judge_fit, model, samples, title="the recipe's preprocessing, by labels")
    except EdgepackError as error:
        runner.events.note(f"whether the preprocessing fits was not checked: {error.message}")
        return ()
    warnings = tuple(finding for finding in found.findings if finding.severity == "warning")
    for finding in warnings:
        runner.events.note(f"{finding.message}. Hint: {finding.hint}")
    return warnings


def refuse_warnings(found: Lint) -> None:
    """Raise ``DataError`` for the first warning, as ``--strict`` asks; nothing when there is none."""
    if not found.warnings:
        return
    first, others = found.warnings[0], len(found.warnings) - 1
    more = f" (and {others} more)" if others else ""
    raise DataError(f"--strict: {first.message}{more}", hint=first.hint)
