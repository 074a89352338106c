"""ONNX Runtime's costs: both precisions know the same operators, and large layers gain where small ones do not."""

from __future__ import annotations

import pytest

from edgepack.engines.onnxruntime.int8_costs import COSTS


def test_both_precisions_know_the_same_operators() -> None:
    assert set(COSTS.float32) - set(COSTS.int8) == {"SiLU"}
    assert set(COSTS.int8) <= set(COSTS.float32)


@pytest.mark.parametrize(("channels", "gains"), [(16, False), (64, True), (256, True)])
def test_a_pointwise_convolution_gains_by_its_channels(channels: int, gains: bool) -> None:
    size = channels * 26 * 26
    int8, float32 = (table["pointwise"].of(size, size, size * channels) for table in (COSTS.int8, COSTS.float32))
    assert (int8 < float32) is gains


def test_a_depthwise_convolution_gains_nothing() -> None:
    size = 64 * 52 * 52
    int8, float32 = (table["depthwise"].of(size, size, size * 9) for table in (COSTS.int8, COSTS.float32))
    assert int8 > float32
