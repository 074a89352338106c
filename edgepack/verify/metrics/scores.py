"""What metrics of classes read: probabilities [n, classes] of both models, and which classes each sample has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.errors import DataError

if TYPE_CHECKING:
    from edgepack.specs.types import Array
    from edgepack.verify.metrics import Compared

_SUM_TOLERANCE = 0.02


@dataclass(frozen=True)
class Scored:
    """``fp32`` and ``other`` [n, classes]; ``truth`` bool [n, classes]. One class is one that a sample has or not.

    ``exclusive``: each sample has exactly one class, and the highest score is the answer.
    """

    fp32: Array
    other: Array
    truth: Array
    exclusive: bool


def read_scores(compared: Compared) -> Scored:
    """Return what was compared as class scores; without labels, what fp32 answers is the truth.

    One score a sample is that of a class which a sample has or not: a probability where all of fp32's lie in 0 to 1,
    else a logit. Labels are a number a sample, or 0 and 1 for each class [n, classes]. Raises ``DataError``.
    """
    import numpy as np

    fp32, other = (_matrix(r.whole(compared.names[0]), compared.metric) for r in (compared.expected, compared.found))
    labels = None if compared.labels is None else np.asarray(compared.labels)
    many = labels is not None and labels.ndim == 2 and labels.shape[1] > 1
    exclusive = fp32.shape[1] > 1 and not many
    raw = not _are_probabilities(fp32, exclusive=exclusive)
    fp32, other = (_probabilities(v, exclusive=exclusive) if raw else v for v in (fp32, other))
    truth = decide(fp32, exclusive=exclusive) if labels is None else _truth(labels, fp32.shape, compared.metric)
    return Scored(fp32, other, truth, exclusive)


def positives(scored: Scored) -> Scored:
    """Return one column for a model of two classes, of which the second is what is looked for; others as they are."""
    if not scored.exclusive or scored.truth.shape[1] != 2:
        return scored
    return Scored(scored.fp32[:, 1:], scored.other[:, 1:], scored.truth[:, 1:], exclusive=False)


def decide(scores: Array, *, exclusive: bool, threshold: float = 0.5) -> Array:
    """Return which classes samples are said to have, bool [n, classes]; a NaN score says none."""
    import numpy as np

    if not exclusive:
        with np.errstate(invalid="ignore"):
            result: Array = scores >= threshold
        return result
    known = np.asarray(~np.isnan(scores).any(axis=1))
    best = np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=1)
    chosen: Array = (np.arange(scores.shape[1])[None, :] == best[:, None]) & known[:, None]
    return chosen


def _matrix(scores: Array, metric: str) -> Array:
    import numpy as np

    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise DataError(
            f"{metric} needs a first output of scores [n, classes] or one score a sample; it is {scores.shape}",
            hint="choose --metric sqnr, cosine, or your own module:function(outputs, labels)",
        )
    return scores.astype(np.float64)


def _are_probabilities(scores: Array, *, exclusive: bool) -> bool:
    import numpy as np

    finite = scores[np.isfinite(scores).all(axis=1)]
    inside = bool(finite.size) and finite.min() >= 0 and finite.max() <= 1
    return bool(inside and (not exclusive or np.abs(finite.sum(axis=1) - 1).max() < _SUM_TOLERANCE))


def _probabilities(scores: Array, *, exclusive: bool) -> Array:
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        if not exclusive:
            result: Array = 1 / (1 + np.exp(-scores))
            return result
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        normal: Array = powers / powers.sum(axis=1, keepdims=True)
        return normal


def _truth(labels: Array, shape: tuple[int, ...], metric: str) -> Array:
    import numpy as np

    n, classes = shape
    most = max(classes - 1, 1)
    if len(labels) != n or labels.ndim > 2 or labels.dtype.kind not in "iub":
        raise DataError(
            f"{metric} needs a whole number, or 0 and 1 for each class, as label of each of {n} samples; "
            f"they are {labels.dtype} {labels.shape}",
            hint="give labels [n], or [n, classes] where a sample has several classes",
        )
    if labels.ndim == 2 and labels.shape[1] == classes and set(np.unique(labels)) <= {0, 1}:
        return labels.astype(bool)
    flat = labels.reshape(n, -1)
    if flat.shape[1] != 1 or flat.min() < 0 or flat.max() > most:
        raise DataError(
            f"{metric} needs labels from 0 to {most}; they are {flat.min()} to {flat.max()}, {list(labels.shape)}",
            hint="the class folders or labels must be in the order of the model's classes",
        )
    if classes == 1:
        return flat.astype(bool)
    truth: Array = flat == np.arange(classes)[None, :]
    return truth
