import dataclasses

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.report.entries import labels, make_groups, pareto
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions


def test_a_row_and_the_result_of_its_bundle_are_one_entry():
    results, rows = made_up.labelled_build()
    (group,) = make_groups(results, rows)
    assert [(e.target, e.precision) for e in group.entries] == [(r.target, r.precision) for r in rows]
    first = group.entries[0]
    assert first.result is results[0]
    assert first.row is rows[0]
    assert first.speedup == rows[0].speedup_over_fp32
    assert first.paired


def test_a_row_without_result_keeps_its_latency():
    _, rows = made_up.labelled_build()
    (group,) = make_groups((), rows)
    assert group.entries[1].percentile(50.0).value_ns == rows[1].latency_ns.p50
    assert not group.entries[4].measured


def test_models_of_the_same_name_but_another_digest_are_kept_apart():
    one = made_up.result()
    other = made_up.result(source_sha256="f" * 64, bundle_sha256="e" * 64)
    first, second = make_groups((one, other), ())
    assert first.title == f"resnet20 ({one.source_sha256[:12]})"
    assert second.title == "resnet20 (ffffffffffff)"


def test_a_row_that_does_not_tell_its_model_goes_with_the_results_of_its_name():
    results, rows = made_up.labelled_build()
    rows = tuple(dataclasses.replace(row, source_sha256="") for row in rows)
    (group,) = make_groups(results, rows)
    assert group.source_sha256 == results[0].source_sha256


def test_speedups_of_separate_results_are_unpaired():
    fp32, int8 = made_up.result(median_ms=4.0), made_up.result(precision="int8", median_ms=2.0)
    (group,) = make_groups((int8, fp32), ())
    assert [e.precision for e in group.entries] == ["fp32", "int8"]
    entry = group.entries[1]
    assert entry.speedup == pytest.approx(2, rel=0.02)
    assert entry.speedup_ci95[0] < 2 < entry.speedup_ci95[1]
    assert not entry.paired
    assert group.entries[0].speedup == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"host": dataclasses.replace(made_up.HOST, cpu="other")},
        {"options": RunOptions(threads=7)},
        {"scenario": Scenario("SingleStream", 5, 5)},
        {"target": "other"},
        {"source_sha256": "a" * 64},
    ],
)
def test_results_of_other_circumstances_are_not_compared(change):
    fp32, int8 = made_up.result(**change), made_up.result(precision="int8")
    assert all(e.speedup is None for g in make_groups((fp32, int8), ()) for e in g.entries if e.precision == "int8")


def test_labels_say_only_what_differs():
    host = dataclasses.replace(made_up.HOST, cpu="Other CPU")
    results = (made_up.result(), made_up.result(host=host), made_up.result(precision="int8"))
    (group,) = make_groups(results, ())
    assert labels(group.entries) == (
        "host-openvino fp32 on Made-up M-1000",
        "host-openvino fp32 on Other",
        "host-openvino int8",
    )


RESULTS = st.builds(
    lambda target, precision, threads, cpu: made_up.result(
        target,
        precision,
        queries=20,
        options=RunOptions(threads=threads),
        host=dataclasses.replace(made_up.HOST, cpu=cpu),
    ),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["fp32", "int8"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["x", "y"]),
)


@given(st.lists(RESULTS, max_size=8))
def test_labels_tell_all_entries_apart(results):
    for group in make_groups(results, ()):
        assert len(set(labels(group.entries))) == len(group.entries)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), max_size=30))
def test_the_front_is_what_nothing_else_beats_in_both(points):
    front = pareto(points)
    for i in front:
        assert not any(c <= points[i][0] and q > points[i][1] for c, q in points)
    for c, q in points:
        assert any(points[i][0] <= c and points[i][1] >= q for i in front)


def test_nothing_at_all_makes_no_group():
    assert make_groups((), ()) == ()


def test_a_later_measurement_of_a_bundle_does_not_inherit_the_speedup_of_the_build():
    results, rows = made_up.labelled_build()
    again = dataclasses.replace(
        made_up.result("host-openvino", "int8", 3.0, scenario=Scenario("SingleStream", 9 * 10**9, 10**9)),
        bundle_sha256=results[1].bundle_sha256,
    )
    (group,) = make_groups((*results, again), rows)
    first, second = (e for e in group.entries if (e.target, e.precision) == ("host-openvino", "int8"))
    assert first.paired
    assert (second.speedup, second.paired) == (None, False)
    assert labels(group.entries)[1:3] == ("host-openvino int8 over 2s", "host-openvino int8 over 9s")


def test_a_row_alone_knows_that_its_latency_was_disturbed():
    """The terminal recommends by the rows of build.json; a result beside them says it itself."""
    row = made_up.row(of=made_up.result(), notes={"latency": "disturbed: other processes took 41 % of the CPU time"})
    (group,) = make_groups((), (row,))
    assert group.entries[0].disturbed is True
    (group,) = make_groups((), (made_up.row(of=made_up.result()),))
    assert group.entries[0].disturbed is False


def test_two_measurements_of_one_bundle_are_told_apart_by_their_time():
    first, second = made_up.result(), made_up.result(median_ms=4.2, measured_at="2026-01-02T09:10:11Z")
    (group,) = make_groups((first, second), ())
    assert labels(group.entries) == (
        "host-openvino fp32 of 2026-01-02 03:04:05",
        "host-openvino fp32 of 2026-01-02 09:10:11",
    )
