"""The user's own metric, ``module:function(outputs, labels) -> float``, with a paired bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack.base.stage import always, stage
from edgepack.base.user_functions import load_callable, user_error
from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.specs.types import Array, UserSource
from edgepack.verify.metrics import Compared, Metric

_RESAMPLES = 400


@stage("metric", tracks=always)
def user_metric_code(reference: UserSource, out: Path) -> Path:
    """Import the user's metric, so that what is wrong with it is said before any work. Raises ``ConfigError``.

    The folder that is returned stands for its code: the digests of the files that it read are kept in it.
    """
    load_callable(reference)
    return out


def _measure(compared: Compared) -> Accuracy:
    """Return the user's metric of both models and the interval of their paired difference.

    The function gets ``outputs``, an array [n, ...] (a dict of arrays when the model has several outputs), and
    ``labels`` [n, ...]. The interval is the 2.5 and 97.5 percentile of 400 paired resamples of the samples
    (Efron and Tibshirani 1993, chapter 13).
    """
    import numpy as np

    metric, names, labels = compared.metric, compared.names, compared.labels
    assert labels is not None, "it says that it needs labels"
    function = load_callable(metric)
    before = {name: compared.expected.whole(name) for name in names}
    after = {name: compared.found.whole(name) for name in names}
    n = len(labels)
    if any(len(value) != n for value in before.values()):
        raise DataError(f"{metric}: there are {n} labels for {len(before[names[0]])} outputs")
    whole = np.arange(n)
    first, second = _value(function, metric, before, labels, whole), _value(function, metric, after, labels, whole)
    generator = np.random.default_rng(compared.seed)
    differences = []
    for _ in range(_RESAMPLES):
        chosen = generator.integers(0, n, n)
        differences.append(
            _value(function, metric, before, labels, chosen) - _value(function, metric, after, labels, chosen)
        )
    low, high = np.percentile(differences, [2.5, 97.5])
    return Accuracy(metric, n, first, second, first - second, (float(low), float(high)))


def _value(function: Callable[..., Any], metric: str, outputs: dict[str, Array], labels: Array, chosen: Array) -> float:
    picked = {name: value[chosen] for name, value in outputs.items()}
    try:
        result = function(next(iter(picked.values())) if len(picked) == 1 else picked, labels[chosen])
        number = float(result)
    except Exception as error:
        raise user_error(error, metric) from error
    if not math.isfinite(number):
        raise DataError(f"{metric} returned {number}", hint="the metric must be a finite number, higher is better")
    return number


METRIC = Metric(_measure, needs_labels=True)
