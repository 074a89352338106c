"""agreement: the share of samples that both models put into the same class."""

from __future__ import annotations

from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric


def _measure(compared: Compared) -> Accuracy | str:
    value, interval = compared.closeness.agreement, compared.closeness.agreement_ci95
    if value is None or interval is None:
        return "agreement needs an output of class scores [batch, classes]; this model has none"
    low, high = interval
    return Accuracy("agreement", compared.closeness.n, 1.0, value, 1 - value, (1 - high, 1 - low))


METRIC = Metric(_measure, title="agreement", unit="%", needs_scores=True)
