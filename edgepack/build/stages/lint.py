"""The check of the calibration samples as a stage: stored like the others, its warnings reported, errors on demand."""

from __future__ import annotations

from edgepack.data.split import Selection
from edgepack.errors import DataError, EdgepackError
from edgepack.execution.runner import Workshop
from edgepack.lint import lint
from edgepack.specs import Lint, Observer, OnnxModel


def lint_step(shop: Workshop, model: OnnxModel, selection: Selection, observer: Observer, percentile: float) -> Lint:
    """Return what should be changed about the calibration samples of ``selection``, which must have some."""
    calibration = selection.calibration
    assert calibration is not None
    evaluation = selection.evaluation if selection.unseen else None
    key = {
        "model": model.sha256,
        "samples": calibration.sha256,
        "evaluation": evaluation.sha256 if evaluation is not None else None,
        "observer": observer,
        "percentile": percentile,
    }
    arguments = (model, calibration, evaluation, observer, percentile)
    return shop.run("lint", f"{len(calibration.indices)} calibration samples", key, lint, *arguments)


def lint_before_use(
    shop: Workshop, model: OnnxModel, selection: Selection, observer: Observer, percentile: float, *, strict: bool
) -> Lint | None:
    """Return what ``lint_step`` finds; each warning is reported at once, and ``strict`` raises ``DataError`` for them.

    Work goes on without it when it fails: what is wrong with a sample or the model, the next stages say of their rows.
    Not so with ``strict``, which raises what it failed with.
    """
    try:
        found = lint_step(shop, model, selection, observer, percentile)
    except EdgepackError as error:
        if strict:
            raise
        shop.events.note(f"the calibration samples were not checked: {error.message}")
        return None
    for finding in found.warnings:
        shop.events.note(f"{finding.message}. What to do: {finding.hint}")
    if strict:
        refuse_warnings(found)
    return found


def refuse_warnings(found: Lint) -> None:
    """Raise ``DataError`` for the first warning, as ``--strict`` asks; nothing when there is none."""
    if not found.warnings:
        return
    first, others = found.warnings[0], len(found.warnings) - 1
    more = f" (and {others} more)" if others else ""
    raise DataError(f"--strict: {first.message}{more}", hint=first.hint)
