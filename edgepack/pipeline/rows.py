"""Rows of a build's result, from what its stages returned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from edgepack.errors import EdgepackError, GateError, VerificationError
from edgepack.pipeline.stages.pack import Packed
from edgepack.quantize.correct import Corrected
from edgepack.quantize.correct.shown import FEWEST_BOXES
from edgepack.report import units
from edgepack.specs.build import DISTURBED, BuildRow, Latency, Trial
from edgepack.specs.result import Result
from edgepack.specs.run import Accuracy, ChangedAnswers
from edgepack.specs.target import Target
from edgepack.specs.types import Precision
from edgepack.verify.evaluate import Evaluation
from edgepack.verify.parts import FEWEST, Balance

# A part of an output that is this much below the whole is named.
_FAR_BELOW_DB = 3.0
_POINT, _NAMED = 0.01, 3  # a change of a class that is worth a word, and how many are named
_APART = 1.25  # how far a ratio of latencies is from the paired one to need a word
_NOT_BUILT = "not measured: the build failed"


def changed_classes(accuracy: Accuracy | None) -> str | None:
    """Return in a sentence which classes lost and gained most; None where none changed by as much as a point."""
    changed = [one for one in accuracy.classes if abs(one.fp32 - one.value) >= _POINT] if accuracy is not None else []
    if accuracy is None or not changed:
        return None
    lost, gained = ([one for one in changed if (one.fp32 > one.value) == less] for less in (True, False))
    most = ", ".join(f"{one.name} {100 * one.fp32:.1f} to {100 * one.value:.1f} %" for one in changed[:_NAMED])
    counts = f"{len(lost)} lose and {len(gained)} gain a point or more"
    return f"of {len(accuracy.classes)} classes {counts} of {units.metric_title(accuracy.metric)}; most changed: {most}"


def changed_answers(change: ChangedAnswers) -> str:
    """Return in words how many of fp32's answers are not given again."""
    low, high = (100 * bound for bound in change.ci95)
    unsure = f"; {change.unsure} of them are found with too low a score" if change.unsure else ""
    return (
        f"{100 * change.share:.2f} % of the answers ({change.changed} of {change.n} {change.answers} in "
        f"{change.samples} samples, 95 % interval {low:.2f} to {high:.2f}{unsure})"
    )


def failed_row(
    target: str, precision: Precision, error: EdgepackError, evaluation: Evaluation | None, trials: tuple[Trial, ...]
) -> BuildRow:
    """Return the row of a target that failed, with what was measured before it did."""
    row = BuildRow(
        target,
        precision,
        "gate_missed" if isinstance(error, GateError) else "failed",
        reason=f"{error.message} ({error.hint})" if error.hint else error.message,
        exit_code=error.exit_code,
        notes={"accuracy": _NOT_BUILT, "latency": _NOT_BUILT},
        trials=trials,
    )
    return with_evaluation(row, evaluation) if evaluation is not None else row


def skipped_row(target: Target, precision: Precision) -> BuildRow:
    """Return the row of a precision that a target does not offer."""
    reason = f"{target.id} does not offer {precision}; its profile lists {', '.join(target.compute.precisions)}"
    return BuildRow(target.id, precision, "skipped", reason=reason)


def built_row(
    target: str,
    precision: Precision,
    bundle: Path,
    packed: Packed,
    evaluation: Evaluation,
    corrected: Corrected | None,
    trials: tuple[Trial, ...],
    notes: Mapping[str, str],
) -> BuildRow:
    """Return the row of a bundle that was built."""
    notes = dict(notes)
    if trials:
        passed = [len(trial.left) for trial in trials if trial.passed]
        notes["gate"] = (
            f"{min(passed, default=0)} operators run in fp32 so that the gate holds; {len(trials)} models were tried"
        )
    row = BuildRow(
        target, precision, "ok", bundle=str(bundle), sha256=packed.sha256, size_bytes=packed.size_bytes,
        model_bytes=packed.model_bytes, notes=notes, trials=trials,
    )  # fmt: skip
    if corrected is not None:
        row = with_corrections(row, corrected)
    return with_evaluation(row, evaluation)


def as_poor(row: BuildRow, balance: Balance, least_db: float, *, allowed: bool) -> BuildRow:
    """Return the row of a bundle whose ``balance`` is below ``least_db``; ``allowed`` keeps the exit code at 0."""
    worst = f"; worst: {_of_worst(balance)}" if balance.worst else ""
    reason = f"the balanced SQNR of {balance.sqnr_db:.1f} dB (n={balance.n}) is below {least_db:g} dB{worst}"
    mend = "give more and more typical calibration samples, build fp16" if row.precision == "int8" else "build fp32"
    if _mean_hides(balance):
        mend = f"evaluate on samples that are less alike, {mend}"
    hint = f"{mend}, or accept it with --allow-poor"
    return dataclasses.replace(
        row, status="poor", reason=f"{reason} ({hint})", exit_code=0 if allowed else VerificationError.exit_code
    )


def _mean_hides(balance: Balance) -> bool:
    """Say whether the worst part would seem much better if what is the same in all samples counted as signal."""
    found, whole = balance.worst_db, balance.worst_whole_db
    return found is not None and whole is not None and whole >= found + _FAR_BELOW_DB


def _of_worst(balance: Balance) -> str:
    """Return in words how much the worst part lost, and what its mean hides of that."""
    found, whole = balance.worst_db, balance.worst_whole_db
    if not _mean_hides(balance):
        return f"{balance.worst} has {found:.1f} dB"
    return (
        f"what varies in {balance.worst} has {found:.1f} dB ({whole:.1f} with what is the same in all samples, which "
        "tells none from another)"
    )


def _notes_on_answers(row: BuildRow, evaluation: Evaluation) -> dict[str, str]:
    """Return what is to be said of accuracy and answers."""
    close, accuracy = evaluation.closeness, evaluation.accuracy
    notes = {}
    if evaluation.accuracy_reason is not None:
        notes["accuracy"] = evaluation.accuracy_reason
    elif (changed := changed_classes(accuracy)) is not None:
        notes["classes"] = changed
    if accuracy is not None and accuracy.truth == "fp32":
        notes["labels"] = f"there are none: {accuracy.metric} takes fp32's own answers for right"
    if close.agreement is None and evaluation.change is not None and row.precision != "fp32":
        notes["answers"] = f"{row.precision} changes {changed_answers(evaluation.change)}"
    if close.agreement is None and accuracy is None:
        notes["agreement"] = "the first output is not class scores [batch, classes]"
    return notes


def _notes_on_closeness(row: BuildRow, evaluation: Evaluation) -> dict[str, str]:
    """Return what is to be said of SQNR, on how many samples, and of values that are not numbers."""
    close, worst = evaluation.closeness, evaluation.balance
    notes = {}
    if close.identical:
        notes["sqnr_db"] = "the outputs are identical to the fp32 model's"
    elif close.sqnr_db is None:
        notes["sqnr_db"] = (
            f"the outputs are decisions: {100 * (1 - (close.mismatch or 0)):.2f} % equal the fp32 model's"
        )
    if close.sqnr_db is not None and close.n < FEWEST:
        notes["samples"] = (
            f"SQNR on {close.n} sample{'s' if close.n > 1 else ''} says little: what is the same in all of them counts "
            f"as signal; give {FEWEST} or more"
        )
    known = row.precision != "fp32" and close.sqnr_db is not None and worst.worst_db is not None
    if known and (worst.worst_db or 0.0) < (close.sqnr_db or 0.0) - _FAR_BELOW_DB:
        notes["worst part"] = f"{_of_worst(worst)}, all outputs together {close.sqnr_db:.1f}"
    if constant := [span for span in evaluation.spans if span.constant]:
        names = ", ".join(repr(span.name) for span in constant)
        notes["constant"] = (
            f"fp32's {names} {'is' if len(constant) == 1 else 'are'} constant over {constant[0].n} samples: "
            "that int8 or another engine gives the same says nothing of other samples"
        )
    if evaluation.nearly_zero:
        spans = {span.name: span for span in evaluation.spans}
        notes["nearly zero"] = "; ".join(
            f"fp32's {name!r} is at most {spans[name].largest:.2g} in {spans[name].n} samples, below one step of "
            f"{row.precision}: judged by its largest difference, {spans[name].max_abs:.2g}, not by its SQNR"
            for name in evaluation.nearly_zero
        )
    if close.nonfinite:
        notes["nonfinite"] = (
            f"of {close.n} samples {close.nonfinite} have values that are NaN or infinite in one model only"
        )
    return notes


def with_evaluation(row: BuildRow, evaluation: Evaluation) -> BuildRow:
    """Return the row with accuracy and closeness filled in."""
    close, verification = evaluation.closeness, evaluation.verification
    notes = {k: v for k, v in row.notes.items() if k != "accuracy"}
    notes |= _notes_on_answers(row, evaluation) | _notes_on_closeness(row, evaluation)
    return dataclasses.replace(
        row,
        accuracy=evaluation.accuracy,
        sqnr_db=close.sqnr_db,
        balanced_sqnr_db=evaluation.balance.sqnr_db,
        balanced_ci95_db=evaluation.balance.ci95_db,
        worst_output=evaluation.balance.worst,
        worst_output_db=evaluation.balance.worst_db,
        cosine=close.cosine,
        agreement=close.agreement,
        mismatch=close.mismatch,
        change=evaluation.change,
        n=close.n,
        sqnr_ci95_db=close.sqnr_ci95_db,
        cosine_ci95=close.cosine_ci95,
        agreement_ci95=close.agreement_ci95,
        evaluated_with=f"{verification.engine} {', '.join(verification.versions.values())}",
        evaluated_isa=verification.isa,
        notes=notes,
    )


def with_corrections(row: BuildRow, corrected: Corrected) -> BuildRow:
    """Return the row with what the steps of ``--method auto`` brought, for programs and in words."""
    if corrected.reason is not None:
        return dataclasses.replace(row, notes={**row.notes, "corrections": corrected.reason})
    words = []
    for step in corrected.steps:
        if step.sqnr_db is None:
            words.append(f"{step.name}: nothing to do")
        else:
            words.append(f"{step.name} {step.sqnr_db:.1f} dB{'' if step.kept else ' (left out)'}")
    text = "; ".join(words) + f" (SQNR on {corrected.judged_on} calibration samples that nothing was fitted on)"
    notes = {**row.notes, "corrections": text, **_notes_on_boxes(corrected)}
    return dataclasses.replace(row, corrections=corrected.steps, notes=notes)


def _notes_on_boxes(corrected: Corrected) -> dict[str, str]:
    """Say that the calibration samples of a detector hardly show what it is to find."""
    if corrected.boxes is None or corrected.boxes >= FEWEST_BOXES:
        return {}
    shown = f"{corrected.boxes} boxes" if corrected.boxes != 1 else "one box"
    return {
        "boxes": f"fp32 shows {shown} in the calibration samples that corrections use, too few to judge int8 by: "
        "calibrate with pictures that show what is to be found"
    }


def with_ratio_explained(row: BuildRow, fp32: BuildRow | None) -> BuildRow:
    """Return the row with why its speed-up is not the ratio of the latencies beside it, where they are far apart.

    The speed-up is of pairs that were measured in turn; a disturbance that hit one of the two rows alone is in their
    latencies, and not in it.
    """
    if fp32 is None or row.latency_ns is None or fp32.latency_ns is None or not row.speedup_over_fp32:
        return row
    ratio = fp32.latency_ns.p50 / row.latency_ns.p50
    if max(ratio / row.speedup_over_fp32, row.speedup_over_fp32 / ratio) < _APART:
        return row
    low, high = row.speedup_ci95 or (row.speedup_over_fp32, row.speedup_over_fp32)
    if low <= ratio <= high:
        why = ", and the interval holds both: measure again on a quieter machine"
    else:
        why = " because something slowed one of them only: believe the speed-up"
    text = (
        f"{row.speedup_over_fp32:.2f} is of pairs measured in turn; the p50 of the two rows are {ratio:.2f} times "
        f"apart{why}"
    )
    return dataclasses.replace(row, notes={**row.notes, "speed-up": text})


def with_size_explained(row: BuildRow, fp32: BuildRow | None) -> BuildRow:
    """Return the row with a word where its model is no smaller than fp32's, which is what many quantize for."""
    if fp32 is None or row.precision == "fp32" or row.model_bytes is None or fp32.model_bytes is None:
        return row
    if row.model_bytes < fp32.model_bytes:
        return row
    made, plain = (units.quantity(size, units.SIZES) for size in (row.model_bytes, fp32.model_bytes))
    text = (
        f"{row.precision} makes the model no smaller: {made}, fp32 has {plain}. With few weights, what {row.precision} "
        "adds (scales, zero points, conversions) takes more than its weights save"
    )
    return dataclasses.replace(row, notes={**row.notes, "size": text})


def with_latency(
    row: BuildRow, result: Result, speedup: float | None, ci95: tuple[float, float] | None, why_none: str | None
) -> BuildRow:
    """Return the row with its measured latency; ``why_none`` says why there is no speed-up."""
    values = {p.p: p.value_ns for p in result.percentiles}
    notes = {k: v for k, v in row.notes.items() if k != "latency"}
    p50 = values.get(50.0)
    if not result.valid:
        notes["latency"] = DISTURBED + "; ".join(result.invalid_reasons)
    if values.get(90.0) is None:
        notes["p90"] = f"not enough queries ({result.queries})"
    if speedup is None and why_none:
        notes["speedup_over_fp32"] = why_none
    return dataclasses.replace(
        row,
        latency_ns=Latency(p50, values.get(90.0)) if p50 is not None else None,
        speedup_over_fp32=speedup,
        speedup_ci95=ci95,
        measured_on=f"{result.host.cpu}, {result.engine} {', '.join(result.versions.values())}",
        notes=notes,
    )
