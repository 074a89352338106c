import dataclasses

import made_up
import pytest

from edgepack.report.entries.baseline import compare_with_baseline
from edgepack.report.formats.markdown import to_markdown
from edgepack.report.html.page import to_html


def only(result):
    return (result,), ()


def changes(new, old):
    return {(d.row, d.figure): d for d in compare_with_baseline(new, old).differences}


@pytest.mark.parametrize(
    ("median_ms", "change"), [(4.0, "same"), (4.04, "same"), (6.0, "worse"), (2.0, "better"), (4.2, "unclear")]
)
def test_a_change_of_latency_is_judged_by_its_interval(median_ms, change):
    found = changes(only(made_up.result(median_ms=median_ms)), only(made_up.result(median_ms=4.0)))
    assert found["host-openvino fp32", "p50"].change == change


def test_a_change_has_its_figures():
    found = changes(only(made_up.result(median_ms=6.0)), only(made_up.result(median_ms=4.0)))[
        "host-openvino fp32", "p50"
    ]
    assert (found.old, found.new, found.difference) == ("4.01 ms", "6.01 ms", "1.50×")  # noqa: RUF001
    assert found.interval.startswith("1.4")


def test_size_and_memory_are_exact():
    old, new = made_up.result(), made_up.result(size_bytes=2_000_000)
    found = changes(only(new), only(old))
    assert found["host-openvino fp32", "size"].change == "worse"
    assert found["host-openvino fp32", "size"].interval == ""
    assert found["host-openvino fp32", "peak memory"].change == "same"


@pytest.mark.parametrize(("value", "change"), [(0.9134, "unclear"), (0.88, "worse"), (0.9190, "better")])
def test_a_change_of_accuracy_is_judged_by_both_intervals(value, change):
    def build(value):
        drop = 0.9198 - value
        quality = made_up.accuracy(value, ci95=(drop - 0.003, drop + 0.003))
        return (), (made_up.row(precision="int8", accuracy=quality),)

    found = changes(build(value), build(0.9134))
    assert found["host-openvino int8", "drop of top-1 accuracy"].change == change


def test_a_row_that_fails_now_is_worse():
    _, rows = made_up.labelled_build()
    failed = dataclasses.replace(rows[0], status="failed", reason="no", sha256=None, latency_ns=None, accuracy=None)
    found = compare_with_baseline(((), (failed,)), ((), (rows[0],)))
    assert [d.figure for d in found.worse] == ["state"]


def test_what_is_in_one_only_is_named():
    one, other = made_up.result(), made_up.result("host-other")
    found = compare_with_baseline(only(one), only(other))
    assert found.differences == ()
    assert found.notes == ("host-openvino fp32 is not in the baseline", "host-other fp32 is in the baseline only")


def test_another_host_or_scenario_is_not_compared():
    moved = made_up.result(host=dataclasses.replace(made_up.HOST, cpu="other"))
    assert compare_with_baseline(only(moved), only(made_up.result())).differences == ()


def test_another_model_and_a_disturbance_are_noted():
    old = made_up.result(source_sha256="f" * 64)
    new = made_up.result(valid=False, invalid_reasons=("busy",))
    notes = compare_with_baseline(only(new), only(old)).notes
    assert any("another model then (ffffffffffff)" in note for note in notes)
    assert any("one was disturbed" in note for note in notes)


def test_page_and_markdown_show_what_changed():
    new, old = only(made_up.result(median_ms=6.0, target="<b>x")), only(made_up.result(median_ms=4.0, target="<b>x"))
    page, text = to_html(*new, old), to_markdown(*new, old)
    assert "Against the baseline" in page
    assert '<span class="mark worse">worse</span>' in page
    assert "<b>x" not in page
    assert "## Against the baseline" in text
    assert "| worse |" in text
    assert "Against the baseline" not in to_html(*new)
