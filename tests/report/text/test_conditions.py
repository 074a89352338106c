import dataclasses

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import ConfigError
from edgepack.report.entries import make_groups
from edgepack.report.text.conditions import judge, parse_condition
from edgepack.specs.run import Accuracy


def findings(build, *texts):
    (group,) = make_groups(*build)
    found = judge(group.entries, [parse_condition(text) for text in texts])
    return {(f.row, f.condition): f for f in found}


@pytest.mark.parametrize(
    ("text", "figure", "comparison", "bound"),
    [
        ("p90 > 20ms", "p90", ">", 20e6),
        ("p99.9>=1.5 s", "p99.9", ">=", 1.5e9),
        ("drop > 0.01", "drop", ">", 0.01),
        ("drop > 1.0 points", "drop", ">", 0.01),
        ("agreement < 98 %", "agreement", "<", 0.98),
        ("size > 5MB", "size", ">", 5e6),
        ("memory > 1GiB", "memory", ">", 2.0**30),
        ("energy > 2mJ", "energy", ">", 2000),
        ("  speedup   <   1.2x ", "speedup", "<", 1.2),
        ("sqnr < 20dB", "sqnr", "<", 20),
        ("throughput < 100", "throughput", "<", 100),
        ("drop > -0.5pt", "drop", ">", -0.005),
        ("drop > 1 %", "drop", ">", 0.01),
        ("drop > 1.0pp", "drop", ">", 0.01),
    ],
)
def test_conditions(text, figure, comparison, bound):
    found = parse_condition(text)
    assert (found.figure, found.comparison) == (figure, comparison)
    assert found.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a condition"),
        ("p90", "not a condition"),
        ("p90 > ", "not a condition"),
        ("p90 > 20ms and drop > 1", "not a condition"),
        ("p90 == 20ms", "not a condition"),
        ("__import__('os').system('x') > 1", "not a condition"),
        ("p90 > 1e9ms", "not a condition"),
        ("p90 > " + "1" * 200, "not a condition"),
        ("p91 > 20ms", "unknown figure 'p91'"),
        ("P90 > 20ms", "unknown figure"),
        ("p90 > 20", "no unit ''"),
        ("p90 > 20MB", "no unit 'MB'"),
        ("size > 5", "no unit ''"),
    ],
)
def test_what_is_no_condition_says_what_to_write(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_condition(text)
    assert caught.value.hint


@given(st.text(max_size=120))
def test_any_text_is_a_condition_or_our_error(text):
    try:
        found = parse_condition(text)
    except ConfigError:
        return
    assert found.comparison in found.text


def test_each_row_is_judged_by_its_own_figure():
    found = findings(made_up.labelled_build(), "p90 > 4ms", "drop > 0.5pt")
    assert found["host-openvino fp32", "p90 > 4ms"].outcome == "failed"
    assert "p90 is 4.45 ms (" in found["host-openvino fp32", "p90 > 4ms"].message
    assert found["host-openvino int8", "p90 > 4ms"].outcome == "passed"
    assert found["host-openvino int8", "drop > 0.5pt"].outcome == "failed"
    assert found["host-openvino fp32", "drop > 0.5pt"].outcome == "passed"


def test_a_row_that_was_not_measured_here_is_skipped():
    found = findings(made_up.labelled_build(), "p90 > 4ms", "drop > 0.5pt")
    assert found["raspberry-pi-5 int8", "p90 > 4ms"].outcome == "skipped"
    assert found["raspberry-pi-5 int8", "drop > 0.5pt"].outcome == "failed"
    assert found["intel-n100 int8", "p90 > 4ms"].outcome == "skipped"
    assert found["intel-n100 int8", "build"].outcome == "error"


def test_a_figure_that_a_measurement_should_have_and_has_not_is_an_error():
    found = findings(((made_up.result(queries=50),), ()), "p90 > 1s")
    assert found["host-openvino fp32", "p90 > 1s"].outcome == "error"


def test_a_condition_that_nobody_can_be_judged_by_does_not_pass_in_silence():
    found = findings(made_up.labelled_build(), "energy > 1J")
    assert found["all rows", "energy > 1J"].outcome == "error"


def test_a_bound_within_the_interval_is_said():
    message = findings(made_up.labelled_build(), "drop > 0.6pt")["host-openvino int8", "drop > 0.6pt"].message
    assert "within the interval" in message


@pytest.mark.parametrize(
    ("comparison", "outcome"), [(">", "passed"), (">=", "failed"), ("<", "passed"), ("<=", "failed")]
)
def test_a_figure_at_the_bound_fails_where_the_comparison_includes_it(comparison, outcome):
    row = dataclasses.replace(made_up.row(), size_bytes=5_000_000)
    text = f"size {comparison} 5MB"
    found = findings(((), (row,)), text)
    assert [f.outcome for (_, condition), f in found.items() if condition == text] == [outcome]


@pytest.mark.parametrize("text", ["drop > 1", "drop > 0.5", "drop > -0.5"])
def test_points_that_were_meant_do_not_pass_as_a_fraction(text):
    found = findings(made_up.labelled_build(), text)["host-openvino int8", text]
    assert found.outcome == "error"
    assert "as in --max-drop: write" in found.message


@pytest.mark.parametrize("text", ["accuracy < 0.99", "accuracy < 1", "agreement < 0.98"])
def test_a_share_without_a_unit_does_not_pass_as_so_many_per_cent(text):
    found = findings(made_up.labelled_build(), text)
    assert found["host-openvino int8", text].outcome == "error"
    assert "may be a fraction: write 9" in found["host-openvino int8", text].message or text == "accuracy < 1"
    assert ("all rows", text) not in found, "it is known"
    percent = findings(made_up.labelled_build(), f"{text}%")["host-openvino int8", f"{text}%"]
    assert percent.outcome == "passed"


def test_the_size_is_the_one_that_the_table_shows():
    row = dataclasses.replace(made_up.row(), size_bytes=5_000_000, model_bytes=1_000_000)
    assert findings(((), (row,)), "size > 2MB")["host-openvino fp32", "size > 2MB"].outcome == "passed"
    assert findings(((), (row,)), "size > 0.5MB")["host-openvino fp32", "size > 0.5MB"].message == "size is 1.00 MB"


def test_a_metric_that_is_no_fraction_has_its_own_unit():
    rows = [
        dataclasses.replace(row, accuracy=made_up.accuracy(30.0, 32.0, metric="my.py:score")) for row in [made_up.row()]
    ]
    found = findings(((), rows), "drop > 1.5", "drop > 2.5")
    assert {text: finding.outcome for (_, text), finding in found.items()} == {
        "build": "passed", "drop > 1.5": "failed", "drop > 2.5": "passed",
    }  # fmt: skip


def test_a_skipped_row_is_neither_passed_nor_failed():
    rows = [made_up.row(), made_up.row("board", "bf16", status="skipped", reason="board does not offer bf16")]
    found = findings(((), rows), "size > 1MB")
    assert {key: finding.outcome for key, finding in found.items() if key[0] == "board bf16"} == {
        ("board bf16", "build"): "skipped", ("board bf16", "size > 1MB"): "skipped",
    }  # fmt: skip


def test_a_metric_in_a_unit_of_its_own_is_compared_in_it():
    results, rows = made_up.labelled_build()
    error = Accuracy("mae", 100, 40.0, 42.5, 2.5, (1.0, 4.0))
    build = results, [dataclasses.replace(row, accuracy=error) if row.accuracy is not None else row for row in rows]
    found = findings(build, "drop > 2", "drop > 3", "accuracy > 41", "accuracy > 43")
    outcomes = {condition: {f.outcome for f in found.values() if f.condition == condition} for _, condition in found}
    assert "failed" in outcomes["drop > 2"]
    assert "failed" not in outcomes["drop > 3"]
    assert "failed" in outcomes["accuracy > 41"]
    assert "failed" not in outcomes["accuracy > 43"]
    assert any(f.message == "drop is 2.500 (1.000 to 4.000)" for f in found.values())


def test_agreement_with_fp32_is_no_accuracy_but_may_drop():
    own = dataclasses.replace(made_up.accuracy(0.97, 1.0), truth="fp32")
    found = findings(((), [dataclasses.replace(made_up.row(), accuracy=own)]), "accuracy < 90", "drop > 1pt")
    (said,) = [f for (row, text), f in found.items() if text == "accuracy < 90" and row != "all rows"]
    assert said.outcome == "error"
    assert said.message.startswith("accuracy was not measured: there were no labels")
    assert [f.outcome for (_, text), f in found.items() if text == "drop > 1pt"] == ["failed"]
