"""Checks of what is in a calibration set: duplicates, blank samples, constant channels, labels and classes."""

from __future__ import annotations

import numpy as np

from edgepack.calibrate.survey import Survey
from edgepack.specs import Array, Diagnostic, OnnxModel, SampleSet, Severity

# Measured: the same photograph as JPEG of quality 30 or scaled to 96 pixels stays above 0.9998; of all pairs of 5000
# CIFAR-10 pictures two are above, of 32 photographs none is above 0.79.
_NEAR = 0.985
_BLOCK = 512
_SHOWN = 3
_IMBALANCE = 10.0


def find_duplicates(survey: Survey) -> list[Diagnostic]:
    """Return a warning for samples that stand in the set more than once, exactly or nearly."""
    first: dict[str, int] = {}
    pairs = []
    for index, digest in enumerate(survey.digests):
        if digest in first:
            pairs.append((survey.names[index], survey.names[first[digest]]))
        first.setdefault(digest, index)
    found = []
    if pairs:
        found.append(
            Diagnostic(
                "warning",
                f"{len(pairs)} of {len(survey.digests)} samples are exact copies of others: {_show(pairs)}",
                hint="remove the copies: they weigh twice and add nothing",
            )
        )
    near = _near_pairs(survey, survey, same_set=True)
    if near:
        found.append(
            Diagnostic(
                "warning",
                f"{len(near)} samples are nearly copies of others (re-encoded, scaled or brightened): {_show(near)}",
                hint="keep one of each",
            )
        )
    return found


def find_overlap(calibration: Survey, evaluation: Survey) -> list[Diagnostic]:
    """Return a warning for calibration samples that are in the evaluation set as well."""
    known = dict(zip(evaluation.digests, evaluation.names, strict=True))
    pairs = [
        (name, known[digest])
        for name, digest in zip(calibration.names, calibration.digests, strict=True)
        if digest in known
    ]
    found = []
    hint = "remove them from the calibration set: accuracy would be measured on what the ranges were fitted to"
    if pairs:
        found.append(
            Diagnostic(
                "warning", f"{len(pairs)} calibration samples are in the evaluation set: {_show(pairs)}", hint=hint
            )
        )
    near = _near_pairs(calibration, evaluation, same_set=False)
    if near:
        found.append(
            Diagnostic(
                "warning",
                f"{len(near)} calibration samples are nearly those of the evaluation set: {_show(near)}",
                hint=hint,
            )
        )
    return found


def _near_pairs(one: Survey, other: Survey, *, same_set: bool) -> list[tuple[str, str]]:
    """Return the pairs of near but not exact copies, each sample of ``one`` at most once."""
    if one.signatures is None or other.signatures is None:
        return []
    pairs: list[tuple[str, str]] = []
    for start in range(0, len(one.signatures), _BLOCK):
        likeness = one.signatures[start : start + _BLOCK] @ other.signatures.T
        for row, column in np.argwhere(likeness > _NEAR):
            index = start + int(row)
            if same_set and column >= index:
                continue
            if one.digests[index] != other.digests[column] and (not pairs or pairs[-1][0] != one.names[index]):
                pairs.append((one.names[index], other.names[column]))
    return pairs


def check_channels(survey: Survey) -> list[Diagnostic]:
    """Return warnings for channels that never change, channels that are all alike, and blank samples."""
    found = []
    for channels in survey.channels:
        constant = np.flatnonzero(channels.minima == channels.maxima)
        if len(constant) == len(channels.minima) and len(constant):
            found.append(
                Diagnostic(
                    "warning", f"the input {channels.name!r} is constant over all samples", hint="give real samples"
                )
            )
        elif len(constant):
            shown = ", ".join(str(c) for c in constant[:8])
            found.append(
                Diagnostic(
                    "warning",
                    f"{len(constant)} of {len(channels.minima)} channels of {channels.name!r} never change: {shown}",
                    hint="check how the samples were made: a channel may be missing or overwritten",
                )
            )
        elif channels.all_equal and len(channels.minima) == 3:
            found.append(
                Diagnostic(
                    "warning",
                    f"all pictures are grey: the channels of {channels.name!r} are alike in every sample",
                    hint="calibrate with colour pictures if the device will see colour",
                )
            )
    if survey.blank:
        names = ", ".join(survey.names[index] for index in survey.blank[:_SHOWN])
        found.append(
            Diagnostic(
                "warning", f"{len(survey.blank)} samples are blank, one single value: {names}", hint="remove them"
            )
        )
    return found


def check_labels(model: OnnxModel, samples: SampleSet, labels: Array) -> list[Diagnostic]:
    """Return what is odd about class labels [samples]: out of range, classes missing, classes that dominate."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return []
    outputs = model.outputs[0].shape
    classes = outputs[-1] if len(outputs) == 2 and isinstance(outputs[-1], int) else None
    found = []
    if labels.min() < 0 or (classes is not None and labels.max() >= classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        found.append(
            Diagnostic(
                "warning",
                f"the label {wrong} is none of the model's {classes or ''} classes".replace("  ", " "),
                hint="check that the labels count from 0, in the order of the model's outputs",
            )
        )
    known = classes or (len(samples.classes) or int(labels.max()) + 1)
    counts = np.bincount(labels[(labels >= 0) & (labels < known)].astype(np.int64), minlength=known)
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        # With few samples for many classes some are missing by chance, which does no harm to ranges.
        severity: Severity = "warning" if len(labels) >= 3 * known else "note"
        shown = ", ".join(_class_name(samples, c) for c in missing[:8]) + (", ..." if len(missing) > 8 else "")
        found.append(
            Diagnostic(
                severity,
                f"{len(missing)} of {known} classes have no sample: {shown}",
                hint="add samples of them, or more samples altogether",
            )
        )
    present = counts[counts > 0]
    if len(present) > 1 and present.max() >= _IMBALANCE * present.min() and present.max() >= 20:
        most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
        found.append(
            Diagnostic(
                "note",
                f"the classes are uneven: {_class_name(samples, most)} has {counts[most]} samples, "
                f"{_class_name(samples, least)} has {counts[least]}",
                hint="balance them unless the device sees them in these proportions",
            )
        )
    return found


def _class_name(samples: SampleSet, label: int) -> str:
    return samples.classes[label] if label < len(samples.classes) else str(label)


def _show(pairs: list[tuple[str, str]]) -> str:
    shown = "; ".join(f"{one} = {other}" for one, other in pairs[:_SHOWN])
    return shown + ("; ..." if len(pairs) > _SHOWN else "")
