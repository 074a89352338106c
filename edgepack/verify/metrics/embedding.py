"""recall@k and nearest-centre: whether what belongs together lies together, of vectors that stand for things."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgepack.base.intervals import paired_difference_ci95
from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.specs.signal_answers import Vector
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.top_k import near_chance

if TYPE_CHECKING:
    from edgepack.specs.answer import Answer
    from edgepack.specs.types import Array

_CHUNK = 1024


def neighbours(vectors: Array, k: int) -> Array:
    """Return the k nearest other vectors of each [n, k] by cosine, nearest first; of equal ones the first."""
    import numpy as np

    unit = _unit(vectors)
    found = []
    for start in range(0, len(unit), _CHUNK):
        near = unit[start : start + _CHUNK] @ unit.T
        rows = np.arange(len(near))
        near[rows, start + rows] = -np.inf
        found.append(np.argsort(-near, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)


def recalled(vectors: Array, labels: Array, k: int) -> Array:
    """Return for each sample whether one of its k nearest has its label, bool [n]; a NaN vector finds nothing."""
    import numpy as np

    right = (labels[neighbours(vectors, k)] == labels[:, None]).any(axis=1)
    result: Array = right & ~np.isnan(vectors).any(axis=1)
    return result


def at_nearest_centre(vectors: Array, labels: Array) -> Array:
    """Return for each sample whether the nearest centre is its class's, bool [n]; it is no part of its own centre.

    A centre is the mean of the unit vectors of a class, and the nearest is that of the largest cosine. A class of one
    sample has no other centre for it, and that sample is wrong.
    """
    import numpy as np

    unit = _unit(vectors)
    classes, which = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), unit.shape[1]))
    np.add.at(sums, which, unit)
    near = unit @ _unit(sums).T
    own = _unit(sums[which] - unit)
    rows = np.arange(len(unit))
    alone = np.bincount(which)[which] == 1
    near[rows, which] = np.where(alone, -np.inf, np.sum(unit * own, axis=1))
    result: Array = (np.argmax(near, axis=1) == which) & ~alone & ~np.isnan(vectors).any(axis=1)
    return result


def _unit(vectors: Array) -> Array:
    import numpy as np

    values = np.nan_to_num(np.asarray(vectors, np.float64).reshape(len(vectors), -1), posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    result: Array = values / np.where(lengths > 0, lengths, 1)
    return result


def _with_partners(labels: Array) -> Array:
    """Return which samples have another one of their class: the others cannot be found by it."""
    import numpy as np

    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    result: Array = counts[which] > 1
    return result


def read_vectors(compared: Compared) -> tuple[Array, Array]:
    """Return both models' vectors [n, size]: the task's answers, or without a task the first output as it is."""
    import numpy as np

    from edgepack.verify.answers import answers

    readers = (compared.expected, compared.found)
    if compared.samples is not None and compared.samples.task is not None:
        found = [np.stack([_vector(a, compared.metric) for a in answers(compared, reader)]) for reader in readers]
    else:
        found = [reader.whole(compared.names[0]) for reader in readers]
    fp32, other = (values.reshape(len(values), -1).astype(np.float64) for values in found)
    return fp32, other


def _vector(answer: Answer, metric: str) -> Array:
    if not isinstance(answer, Vector):
        raise DataError(
            f"{metric} needs vectors; {type(answer).__name__.lower()} are answered", hint="choose another metric"
        )
    return answer.values


def _recall(k: int, compared: Compared) -> Accuracy | str:
    fp32, other = read_vectors(compared)
    if compared.labels is None:
        nearest = neighbours(fp32, 1)[:, 0]
        after = (neighbours(other, k) == nearest[:, None]).any(axis=1)
        return _accuracy(compared, after | True, after)
    labels = _labels(compared, len(fp32))
    known = _with_partners(labels)
    if not known.any():
        return f"{compared.metric} needs two samples of a class; each class has one"
    return _accuracy(compared, recalled(fp32, labels, k)[known], recalled(other, labels, k)[known])


def _centre(compared: Compared) -> Accuracy | str:
    fp32, other = read_vectors(compared)
    labels = _labels(compared, len(fp32))
    known = _with_partners(labels)
    if not known.any():
        return f"{compared.metric} needs two samples of a class; each class has one"
    return _accuracy(compared, at_nearest_centre(fp32, labels)[known], at_nearest_centre(other, labels)[known])


def _labels(compared: Compared, n: int) -> Array:
    import numpy as np

    labels = np.asarray(compared.labels)
    if labels.shape != (n,):
        raise DataError(
            f"{compared.metric} needs one class a sample: the labels are {list(labels.shape)} for {n} samples",
            hint="give a label column of classes",
        )
    return labels


def _accuracy(compared: Compared, before: Array, after: Array) -> Accuracy:
    first, second = float(before.mean()), float(after.mean())
    return Accuracy(compared.metric, len(before), first, second, first - second, paired_difference_ci95(before, after))


def recall_by_chance(labels: Array, k: int) -> float:
    """Return how often one of ``k`` others drawn by chance has a sample's class, the mean over those with others."""
    import numpy as np

    _, counts = np.unique(labels, return_counts=True)
    n, counts = len(labels), counts[counts > 1]
    missed = np.ones(len(counts))
    for drawn in range(min(k, n - 1)):
        missed *= np.maximum(n - counts - drawn, 0) / (n - 1 - drawn)
    return float(1 - (missed * counts).sum() / counts.sum())


def _doubt_recall(k: int, compared: Compared, found: Accuracy) -> str | None:
    import numpy as np

    if compared.labels is None:
        return None
    chance = recall_by_chance(np.asarray(compared.labels), k)
    return near_chance(found.metric, round(found.fp32 * found.n), found.n, chance)


def _doubt_centre(compared: Compared, found: Accuracy) -> str | None:
    import numpy as np

    classes = len(np.unique(np.asarray(compared.labels)))
    return near_chance(found.metric, round(found.fp32 * found.n), found.n, 1 / classes)


RECALL_1, RECALL_5, RECALL_10 = (
    Metric(partial(_recall, k), f"recall at {k}", "%", uses_labels=True, doubt=partial(_doubt_recall, k))
    for k in (1, 5, 10)
)
CENTRE = Metric(_centre, "accuracy by the nearest class centre", "%", needs_labels=True, doubt=_doubt_centre)
