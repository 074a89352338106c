# ruff: noqa: RUF001  the true minus and dash are what is tested
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.report import units
from edgepack.specs.run import Accuracy


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1.00"), (12.34, "12.3"), (999.6, "1000"), (1234.5, "1234"), (0.01234, "0.0123"), (-2.5, "−2.50")],
)
def test_three_digits(value, text):
    assert units.digits(value) == text


@given(st.floats(1e-6, 1e12))
def test_digits_keep_the_value_to_half_a_per_cent(value):
    assert float(units.digits(value)) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([2_300_000, 4_000_000], "ms"),
        ([900, 1100], "ns"),
        ([30_000], "µs"),
        ([5e9], "s"),
        ([], "ms"),
        ([None, 0], "ms"),
    ],
)
def test_a_column_has_one_unit(values, unit):
    assert units.scale_for(values, units.TIMES).unit == unit


def test_intervals_with_a_minus_are_written_with_a_word():
    scale = units.Scale("ms", 1e6)
    assert scale.interval((1.2e6, 1.3e6)) == "1.20–1.30"
    assert scale.interval((-1.2e6, 1.3e6)) == "−1.20 to 1.30"
    assert scale.interval(None) == ""


@pytest.mark.parametrize(
    ("value", "scales", "text"),
    [
        (1000, units.TIMES, "1.00 µs"),
        (10**6, units.TIMES, "1.00 ms"),
        (999, units.TIMES, "999 ns"),
        (10**9, units.SIZES, "1.00 GB"),
        (10**6, units.ENERGIES, "1.00 J"),
    ],
)
def test_a_round_value_is_in_its_own_unit(value, scales, text):
    assert units.quantity(value, scales) == text


@pytest.mark.parametrize(("value", "text"), [(0.004, "0.00"), (-0.004, "0.00"), (0.64, "+0.64"), (-0.3, "−0.30")])
def test_signed_numbers(value, text):
    assert units.signed(value) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"), [(10 * 10**9, "10s"), (500 * 10**6, "500ms"), (1500, "1500ns"), (2000, "2us")]
)
def test_durations_are_as_the_command_line_takes_them(nanoseconds, text):
    assert units.duration(nanoseconds) == text


def test_what_is_not_known_is_a_dash():
    dash = units.NONE
    assert [units.quantity(None, units.SIZES), units.percent(None), units.signed(None), units.ratio(None)] == [dash] * 4


def test_words():
    assert units.threads(None) == "default threads"
    assert units.threads(1) == "1 thread"
    assert units.threads(2) == "2 threads"
    assert units.metric_title("my.module:f1") == "my.module:f1"
    assert units.count(1234567) == "1\u202f234\u202f567"


def test_a_drop_is_in_points_of_a_fraction_else_in_the_metrics_own_unit():
    assert units.drop(0.01, "top1") == "+1.00"
    assert units.drop(-0.00004, "top1") == "0.00"
    assert units.drop(0.00123, "mae") == "+0.00123"
    assert units.drop(-42.0, "rmse") == "\u221242.0"
    assert units.drop(0.0, "auroc") == "0"
    assert units.drop(0.5, "score.py:own") == "+0.50"
    assert [name for name in ("mae", "rmse", "cer", "wer", "f1", "auroc", "nothing") if units.less_is_better(name)] == [
        "mae", "rmse", "cer", "wer",
    ]  # fmt: skip


def test_a_heading_keeps_names_that_are_written_in_their_own_way() -> None:
    measured = [Accuracy(metric, 9, 1.0, 1.0, 0.0, (0.0, 0.0)) for metric in ("map", "top1", "auroc", "my.module:f1")]
    headings = [units.accuracy_heading(found) for found in measured]
    assert headings == ["mAP of IoU .50 to .95", "Top-1 accuracy", "Area under the ROC curve", "my.module:f1"]


def test_fp32s_own_answers_taken_for_right_make_an_agreement_not_an_accuracy() -> None:
    found = Accuracy("map", 9, 1.0, 0.9, 0.1, (0.0, 0.2), truth="fp32")
    assert units.accuracy_title(found) == "agreement with fp32 by mAP of IoU .50 to .95"
    assert units.accuracy_heading(found).startswith("Agreement with fp32 by mAP")
