"""The tolerance policy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from edgepack.specs.run import OutputDistance
from edgepack.verify.tolerance import (
    INT8_MARGIN_DB,
    INT8_MOST_DB,
    Tolerance,
    rounding_sqnr_db,
    tolerance,
    too_wide,
    widest,
)


def measured(sqnr_db=None, max_abs=0.0, mismatch=None):
    return OutputDistance("y", sqnr_db, 1.0, max_abs, None, passed=True, mismatch=mismatch)


@pytest.mark.parametrize("bits", [8, 11, 24])
def test_the_formula_for_rounding_is_what_rounding_does(bits):
    """Round significands, uniform in [1, 2), to so many bits and measure."""
    values = 1 + np.random.default_rng(bits).random(200_000)
    step = 2.0 ** (1 - bits)
    noise = values - np.round(values / step) * step
    found = 10 * math.log10(np.square(values).sum() / np.square(noise).sum())
    assert found == pytest.approx(rounding_sqnr_db(bits), abs=0.1)


def test_fp32_is_fixed_whatever_was_measured():
    assert tolerance("fp32").sqnr_db == tolerance("fp32", measured(20.0)).sqnr_db == 60.0


def test_half_precisions_follow_their_significands():
    fp16, bf16 = tolerance("fp16").sqnr_db, tolerance("bf16").sqnr_db
    assert fp16 - bf16 == pytest.approx(3 * 20 * math.log10(2))
    assert 30 < fp16 < 40
    assert 10 < bf16 < 20
    assert tolerance("fp16", measured(90.0)).sqnr_db == fp16


def test_int8_may_have_twice_the_error_that_was_measured():
    allowed = tolerance("int8", measured(25.0)).sqnr_db
    assert allowed == 25.0 - INT8_MARGIN_DB
    assert 10 ** ((25.0 - allowed) / 20) == pytest.approx(2.0)


def test_int8_is_never_allowed_to_be_noise():
    assert tolerance("int8", measured(3.0)).sqnr_db == 0.0
    assert tolerance("int8").sqnr_db == 0.0


@pytest.mark.parametrize("lucky", [None, 200.0, 60.0, 45.0])
def test_luck_of_a_few_samples_is_no_demand(lucky):
    """Samples that int8 happens to answer as fp32 does say nothing of the next ones."""
    assert tolerance("int8", measured(lucky)).sqnr_db == INT8_MOST_DB < 30.0


def test_what_all_samples_have_in_common_raises_what_is_demanded():
    assert tolerance("int8", measured(60.0), offset_db=40.0).sqnr_db == 60.0 - INT8_MARGIN_DB
    assert tolerance("int8", measured(90.0), offset_db=40.0).sqnr_db == INT8_MOST_DB + 40.0
    assert tolerance("int8", measured(3.0), offset_db=40.0).sqnr_db == 0.0
    assert tolerance("fp32", measured(90.0), offset_db=40.0).sqnr_db == 60.0


def test_the_most_that_is_demanded_is_what_one_step_in_each_value_leaves():
    values = np.clip(np.random.default_rng(0).standard_normal(1_000_000), -4, 4)
    step = 8 / 255
    found = 10 * math.log10(np.square(values).mean() / step**2)
    assert found - INT8_MARGIN_DB == pytest.approx(INT8_MOST_DB, abs=0.1)


def test_decisions_may_differ_twice_as_often_and_as_none_seen_allows():
    assert tolerance("int8", measured(mismatch=0.0), 4).mismatch == 0.5  # never more than half
    assert tolerance("int8", measured(mismatch=0.0), 300).mismatch == pytest.approx(0.01)
    assert tolerance("int8", measured(mismatch=0.01), 1000).mismatch == pytest.approx(0.023)
    assert tolerance("fp32", measured(mismatch=0.0), 4).mismatch == 0.0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("elements", [0, 1, 4, 100_000])
def test_no_measurement_makes_a_tolerance_wider_than_the_widest(precision, elements):
    """What a wrong build measures of itself is no excuse."""
    most = widest(precision, elements)
    for worst in (measured(-200.0, 255.0, 1.0), measured(None, 1.7e308, 1.0), measured(0.1, 0.0, 0.75)):
        allowed = tolerance(precision, worst, elements)
        assert allowed.sqnr_db >= most.sqnr_db
        assert allowed.max_abs <= most.max_abs < 1
        assert allowed.mismatch <= most.mismatch <= 0.5
        assert too_wide(allowed, precision, elements) is None
    assert too_wide(tolerance(precision), precision, elements) is None


def test_the_ceiling_of_differing_decisions():
    """Three of four that differ are never right; two of four may be chance in int8, two hundred of four hundred not."""
    assert widest("int8", 4).mismatch == 0.5
    assert widest("int8", 1000).mismatch == pytest.approx(0.251)
    assert widest("fp32", 4).mismatch == widest("fp32", 10**6).mismatch == 0.001


def test_an_output_that_is_zero_in_fp32():
    assert tolerance("fp32", measured()).max_abs == 1e-6
    assert tolerance("fp32", measured(max_abs=255.0)).max_abs == 1e-4
    assert tolerance("int8", measured(max_abs=0.2)).max_abs == 0.4
    assert tolerance("int8", measured(max_abs=math.inf)).max_abs == 0.5


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize(
    "forged",
    [
        {"sqnr_db": -1e300},
        {"sqnr_db": -0.01},
        {"sqnr_db": 1e300},
        {"sqnr_db": math.nan},
        {"max_abs": 1e300},
        {"max_abs": -1.0},
        {"max_abs": math.nan},
        {"mismatch": 0.51},
        {"mismatch": -0.1},
        {"mismatch": math.nan},
        {"zero_within": 0.01},
        {"zero_within": -1e-9},
        {"zero_within": math.nan},
    ],
)
def test_a_tolerance_that_somebody_else_wrote(precision, forged):
    assert too_wide(dataclasses.replace(tolerance(precision), **forged), precision, 4)


def test_what_one_precision_may_another_may_not():
    assert too_wide(Tolerance(20.0, 0.0, 0.5), "int8", 4) is None
    assert "fp32 needs 60" in (too_wide(Tolerance(59.0, 0.0, 0.0), "fp32", 4) or "")
    assert "where 0.1 % may" in (too_wide(Tolerance(60.0, 0.0, 0.01), "fp32", 4) or "")
    assert "where 25.1 % may" in (too_wide(Tolerance(20.0, 0.0, 0.5), "int8", 1000) or "")


def test_what_counts_as_nearly_zero_is_a_step_of_the_precision():
    assert widest("int8").zero_within == 1 / 255
    assert widest("fp32").zero_within == 2.0**-23
    assert widest("int8", bounded=False).zero_within == 0.0
    assert tolerance("int8", dataclasses.replace(measured(20.0), zero_within=1 / 255)).zero_within == 1 / 255
    assert "may" in (too_wide(Tolerance(60.0, 0.0, 0.0, 1 / 255), "fp32", 4) or "")
