"""sqnr: the signal-to-quantization-noise ratio, in dB; a figure of every evaluation, with no drop to be measured."""

from __future__ import annotations

from edgepack.verify.metrics import Compared, Metric


def _measure(_compared: Compared) -> str:
    return "sqnr is a ratio in dB and has no drop; see sqnr_db"


METRIC = Metric(_measure, title="SQNR", unit="dB", has_drop=False)
