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


@pytest.mark.parametrize(("weights", "gains"), [(64 * 12, False), (640 * 640, True)])
def test_a_product_of_one_row_gains_by_its_weights(weights: int, gains: bool) -> None:
    int8, float32 = (table["vector"].of(1, 1, weights) for table in (COSTS.int8, COSTS.float32))
    assert (int8 < float32) is gains


def test_a_first_layer_gains_nothing_though_a_later_one_does() -> None:
    size = 64 * 25 * 5
    for kind, read, gains in (("first", 490, False), ("dense", size, True)):
        macs = size * 40 if kind == "first" else size * 64 * 9
        int8, float32 = (table[kind].of(size, read, macs) for table in (COSTS.int8, COSTS.float32))
        assert (int8 < float32) is gains
