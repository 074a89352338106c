"""mae, rmse and spearman: how far predicted numbers are from the true ones, and whether their order is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from edgepack.base.intervals import Z95, mean_ci95
from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy
from edgepack.verify.metrics.ranking import ranks

if TYPE_CHECKING:
    from edgepack.specs.types import Array

_FEWEST = 10  # samples: fewer say nothing
_NEAR, _MOST_RHO = 0.1, 0.999999

Figure = Callable[["Array", "Array"], float]


def mae(truth: Array, found: Array) -> float:
    """Return the mean distance of numbers [n, ...]."""
    import numpy as np

    return float(np.mean(np.abs(found - truth)))


def rmse(truth: Array, found: Array) -> float:
    """Return the root of the mean squared distance of numbers [n, ...]."""
    import numpy as np

    return float(np.sqrt(np.mean(np.square(found - truth))))


def spearman(truth: Array, found: Array) -> float:
    """Return the correlation of the ranks of numbers [n, ...], the mean over columns; nan where all are equal."""
    import numpy as np

    values = []
    for one, other in zip(truth.reshape(len(truth), -1).T, found.reshape(len(found), -1).T, strict=True):
        if np.isnan(one).any() or np.isnan(other).any():
            return float("nan")
        x, y = (ranks(column) - (len(column) + 1) / 2 for column in (one, other))
        length = float(np.sqrt((x @ x) * (y @ y)))
        values.append(float(x @ y) / length if length else float("nan"))
    return float(np.mean(values))


def read_numbers(compared: Compared) -> tuple[Array, Array, Array]:
    """Return the truth and both models' numbers [n, ...], float64; without labels fp32's are the truth.

    Raises ``DataError`` where the labels are not as many numbers as the first output.
    """
    import numpy as np

    fp32, other = (r.whole(compared.names[0]).astype(np.float64) for r in (compared.expected, compared.found))
    if compared.labels is None:
        return fp32, fp32, other
    labels = np.asarray(compared.labels)
    if labels.dtype.kind not in "iufb" or labels.size != fp32.size or len(labels) != len(fp32):
        raise DataError(
            f"{compared.metric} needs as many numbers in the labels as in the first output: they are {labels.dtype} "
            f"{list(labels.shape)}, the output is {list(fp32.shape)}",
            hint="give a label for each number of the output",
        )
    return labels.astype(np.float64).reshape(fp32.shape), fp32, other


def _measure(figure: Figure, less: bool, compared: Compared) -> Accuracy | str:
    import numpy as np

    truth, fp32, other = read_numbers(compared)
    with np.errstate(invalid="ignore", over="ignore"):
        return paired_accuracy(
            compared.metric, len(truth), lambda i: figure(truth[i], fp32[i]), lambda i: figure(truth[i], other[i]),
            compared.seed, less=less, width=fp32[0].size,
        )  # fmt: skip


def _doubt_distance(compared: Compared, found: Accuracy) -> str | None:
    """Return why labels are likely other numbers: the model is surely worse than always answering their mean."""
    import numpy as np

    if compared.labels is None or found.n < _FEWEST:
        return None
    truth, fp32, _ = (values.reshape(found.n, -1) for values in read_numbers(compared))
    constant = np.median(truth, axis=0) if found.metric == "mae" else truth.mean(axis=0)
    power = 1 if found.metric == "mae" else 2
    with np.errstate(invalid="ignore", over="ignore"):
        worse = (np.abs(fp32 - truth) ** power - np.abs(constant - truth) ** power).mean(axis=1)
        interval = mean_ci95(worse) if np.isfinite(worse).all() else None
    if interval is None or interval[0] <= 0:
        return None
    figure, name = (mae, "median") if found.metric == "mae" else (rmse, "mean")
    return (
        f"the fp32 model itself has {found.metric} {found.fp32:.4g} (n={found.n}), and always answering the labels' "
        f"{name} has {figure(truth, np.broadcast_to(constant, truth.shape)):.4g}: the labels are other numbers or in "
        "another unit, or the preprocessing is wrong"
    )


def _doubt_ranks(compared: Compared, found: Accuracy) -> str | None:
    """Return why labels are likely others: the interval of Spearman's rho (Fisher's z) ends near 0 or below it."""
    if compared.labels is None or found.n < _FEWEST or not math.isfinite(found.fp32):
        return None
    inner = min(max(found.fp32, -_MOST_RHO), _MOST_RHO)
    if math.tanh(math.atanh(inner) + Z95 / math.sqrt(found.n - 3)) >= _NEAR:
        return None
    return (
        f"the fp32 model's own {found.metric} is {found.fp32:.3f} (n={found.n}), and guessing has 0: the labels are "
        "other numbers, or the preprocessing is wrong"
    )


MAE = Metric(
    partial(_measure, mae, True), "mean absolute error", uses_labels=True, less_is_better=True, doubt=_doubt_distance
)
RMSE = Metric(
    partial(_measure, rmse, True), "root mean squared error", uses_labels=True, less_is_better=True,
    doubt=_doubt_distance,
)  # fmt: skip
SPEARMAN = Metric(
    partial(_measure, spearman, False), "Spearman's rank correlation", uses_labels=True, doubt=_doubt_ranks
)
