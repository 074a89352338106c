"""cosine: the mean cosine between the outputs of both models."""

from __future__ import annotations

from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric


def _measure(compared: Compared) -> Accuracy:
    close = compared.closeness
    low, high = close.cosine_ci95 or (close.cosine, close.cosine)
    return Accuracy("cosine", close.n, 1.0, close.cosine, 1 - close.cosine, (1 - high, 1 - low))


METRIC = Metric(_measure, title="cosine")
