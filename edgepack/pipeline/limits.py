"""What a row may lose to become a bundle: its values, --max-drop and --max-change; and what is said of one refused."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.errors import GateError
from edgepack.pipeline.quantized import WITHOUT_INTEGERS
from edgepack.pipeline.rows import changed_answers
from edgepack.pipeline.settings import AS_IS, BuildSettings
from edgepack.specs.data import Finding
from edgepack.specs.run import Accuracy
from edgepack.specs.types import Precision
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.golden import refuse_wrong
from edgepack.verify.metrics import has_own_unit


@dataclass(frozen=True)
class Limits:
    """The most that the metric may drop, the largest share of fp32's answers that may change; None means no limit."""

    max_drop: float | None = None
    max_change: float | None = None

    def broken_by(self, evaluation: Evaluation) -> bool:
        """Return whether what was measured is beyond a limit; what could not be measured is not."""
        drop, change = evaluation.accuracy, evaluation.change
        dropped = self.max_drop is not None and drop is not None and drop.drops_more_than(self.max_drop)
        changed = self.max_change is not None and change is not None and change.more_than(self.max_change)
        return dropped or changed


def check_row(
    evaluation: Evaluation, settings: BuildSettings, precision: Precision, tried: int, warnings: tuple[Finding, ...]
) -> None:
    """Raise ``VerificationError`` or ``GateError`` when the row must not become a bundle."""
    refuse_wrong(evaluation.verification, precision)
    found = evaluation.accuracy
    proven = next((finding for finding in warnings if finding.proven), None)
    if found is not None and proven is not None:
        raise GateError(proven.message, hint=proven.hint)
    if evaluation.suspect:
        raise GateError(
            evaluation.suspect,
            hint="check labels, classes and recipe, also with 'edgepack lint'; if they are right, --metric sqnr",
        )
    _check_change(evaluation, settings.max_change, precision, tried)
    if settings.max_drop is None:
        return
    if found is None:
        raise GateError(
            f"the gate --max-drop cannot be checked: {evaluation.accuracy_reason}", hint="add --eval with labels"
        )
    if found.drops_more_than(settings.max_drop):
        raise GateError(
            _dropped(found, precision, settings.max_drop)
            + (f"; none of {tried} models with operators in fp32 passed" if tried else ""),
            hint=WITHOUT_INTEGERS
            if AS_IS in settings.precisions
            else "leave --method plain out: corrections and the search for layers to keep in fp32 come with auto"
            if precision == "int8" and settings.method == "plain"
            else "give more calibration samples, another --observer, or a larger --max-drop",
        )


def _dropped(found: Accuracy, precision: Precision, most: float) -> str:
    """Return what was lost in words, in the metric's own unit; of one that is a fraction in percentage points."""
    low, high = found.ci95
    if has_own_unit(found.metric):
        return (
            f"{precision} makes {found.metric} worse by {found.drop:.4g} ({found.fp32:.4g} to {found.value:.4g}, "
            f"n={found.n}, 95 % interval {low:.4g} to {high:.4g}), more than the {most:g} allowed"
        )
    change = "raises" if found.value > found.fp32 else "drops"
    return (
        f"{precision} {change} {found.metric} by {100 * found.drop:.2f} points ({100 * found.fp32:.2f} to "
        f"{100 * found.value:.2f} %, n={found.n}, 95 % interval {100 * low:.2f} to {100 * high:.2f}), more "
        f"than the {100 * most:g} allowed"
    )


def _check_change(evaluation: Evaluation, most: float | None, precision: Precision, tried: int) -> None:
    """Raise ``GateError`` when more answers change than may."""
    if most is None or precision == "fp32":
        return
    change = evaluation.change
    if change is None:
        raise GateError(
            f"the gate --max-change cannot be checked: {evaluation.change_reason}",
            hint="say by --task or a recipe what the model is for, or use --min-sqnr, or --metric and --max-drop",
        )
    if change.more_than(most):
        raise GateError(
            f"{precision} changes {changed_answers(change)}, more than the {100 * most:g} % allowed"
            + (f"; none of {tried} models with operators in fp32 passed" if tried else ""),
            hint="give more calibration samples, or a larger --max-change",
        )
