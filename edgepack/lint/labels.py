"""Checks the class labels of a calibration set: out of range, classes missing, classes that dominate."""

from __future__ import annotations

import numpy as np

from edgepack.lint import Found, Inspected
from edgepack.specs.data import Finding, SampleSet
from edgepack.specs.types import Array

_IMBALANCE = 10.0
_LEAST_DOMINANT = 20
_SHOWN = 8
# A class is missed if it would be absent by chance less often than this, all classes taken together.
_CHANCE = 0.01


def check(inspected: Inspected) -> Found:
    """Return what is odd about the class labels of the calibration set; nothing where labels are of another kind."""
    samples, labels = inspected.calibration.samples, inspected.calibration.labels
    if labels is None:
        return Found()
    evaluation = inspected.evaluation.labels if inspected.evaluation is not None else None
    found = []
    outputs = inspected.model.outputs[0].shape
    answers = outputs[1] if len(outputs) == 2 and isinstance(outputs[1], int) and outputs[1] > 1 else None
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (answers is not None and high >= answers):
        classes = f"{answers} classes" if answers is not None else "classes"
        text = f"the label {low if low < 0 else high} is not one of the model's {classes}"
        hint = "check that the labels count from 0, in the order of the model's outputs"
        found.append(Finding("labels", "warning", text, hint))
    counts = np.bincount(labels[labels >= 0].astype(np.int64))
    shares = _expected_shares(samples, counts, evaluation, answers)
    counts = np.pad(counts, (0, max(0, len(shares) - len(counts))))
    return Found((*found, *_missing(samples, counts, shares), *_uneven(samples, counts)))


def _expected_shares(samples: SampleSet, counts: Array, evaluation: Array | None, answers: int | None) -> Array:
    """Return how frequent each class is among the samples for evaluation; without their labels, all alike.

    All are the class folders or, of a .npz, the model's answers, if at least half of them occur: labels of a model
    that answers with an embedding, or with more classes than the data has, say nothing about its outputs.
    """
    if evaluation is not None and len(known := evaluation[evaluation >= 0]):
        shares: Array = np.bincount(known.astype(np.int64)) / len(known)
        return shares
    count = max(len(samples.classes), len(counts))
    if answers is not None and answers > count and 2 * int((counts > 0).sum()) >= answers:
        count = answers
    return np.full(count, 1 / max(count, 1))


def _missing(samples: SampleSet, counts: Array, shares: Array) -> list[Finding]:
    expected = np.pad(shares, (0, len(counts) - len(shares)))
    missing = np.flatnonzero((counts == 0) & (expected > 0))
    if not len(missing):
        return []
    absent_by_chance = (1 - expected[missing]) ** int(counts.sum())
    surprising = bool((absent_by_chance < _CHANCE / len(shares)).any())
    shown = ", ".join(_class_name(samples, c) for c in missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    known = int(((counts > 0) | (expected > 0)).sum())
    text = f"{len(missing)} of {known} classes have no sample: {shown}"
    text += "" if surprising else " (with so few samples this may be chance)"
    hint = "add samples of them, or more samples altogether"
    return [Finding("labels", "warning" if surprising else "note", text, hint)]


def _uneven(samples: SampleSet, counts: Array) -> list[Finding]:
    present = counts[counts > 0]
    if len(present) < 2 or present.max() < max(_IMBALANCE * present.min(), _LEAST_DOMINANT):
        return []
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    text = (
        f"the classes are uneven: {_class_name(samples, most)} has {counts[most]} samples, "
        f"{_class_name(samples, least)} has {counts[least]}"
    )
    return [Finding("labels", "note", text, "balance them unless the device sees them in these proportions")]


def _class_name(samples: SampleSet, label: int) -> str:
    return samples.classes[label] if label < len(samples.classes) else str(label)
