import dataclasses

import made_up
import pytest

from edgepack.report.entries import labels, make_groups
from edgepack.report.entries.choice import Limits, choose, default_limits, presets, quality_kind
from edgepack.report.html.page import to_html
from edgepack.report.text.sentences import recommendation


def entries_of(build):
    (group,) = make_groups(*build)
    return group.entries


@pytest.fixture(scope="module")
def labelled():
    return entries_of(made_up.labelled_build())


def chosen(entries, **limits):
    best = choose(entries, Limits(**limits)).best
    return None if best is None else labels(entries)[best]


def test_the_fastest_that_keeps_the_limits_is_chosen(labelled):
    assert chosen(labelled) == "host-openvino int8"
    assert chosen(labelled, quality=0.001) == "host-openvino fp32"
    assert chosen(labelled, latency_ns=1.0) is None
    assert chosen(labelled, size_bytes=500_000) == "host-openvino int8"
    assert chosen(labelled, memory_bytes=62e6) == "host-openvino int8"


def test_what_was_not_measured_keeps_no_limit_on_it(labelled):
    assert chosen(labelled, energy_uj=1e12) is None


def test_a_failed_or_unmeasured_row_is_never_chosen():
    _, rows = made_up.labelled_build()
    (group,) = make_groups((), rows[4:])
    assert choose(group.entries, Limits()).best is None
    assert "The device raspberry-pi-5 was not measured" in recommendation(group.entries, Limits())


def test_a_row_that_missed_its_gate_is_not_chosen():
    results, rows = made_up.labelled_build()
    missed = dataclasses.replace(rows[1], status="gate_missed", reason="too low")
    assert chosen(entries_of((results, (rows[0], missed, *rows[2:4])))) == "host-onnxruntime int8"


def test_latencies_whose_intervals_overlap_are_a_tie():
    twin = made_up.result("host-twin", "int8", 2.2)
    results, rows = made_up.labelled_build()
    entries = entries_of(((*results, twin), rows))
    found = choose(entries, Limits())
    assert labels(entries)[found.ties[0]] in ("host-twin int8", "host-openvino int8")
    assert "cannot be distinguished from" in recommendation(entries, Limits())


@pytest.mark.parametrize(("ratio", "ties"), [(1.04, 0), (1.02, 1)])
def test_what_a_ratio_measured_in_turn_tells_apart_is_no_tie(ratio, ties):
    results, rows = made_up.labelled_build()
    alike = made_up.result("host-openvino", "int8", 4.13)
    ends = (ratio - 0.03, ratio + 0.03)
    int8 = made_up.row("host-openvino", "int8", alike, speedup_over_fp32=ratio, speedup_ci95=ends)
    assert len(choose(entries_of(((results[0], alike), (rows[0], int8))), Limits()).ties) == ties


def test_disturbed_measurements_can_be_left_out():
    entries = entries_of(made_up.unlabelled_build())
    assert chosen(entries) == "host-openvino int8"
    assert chosen(entries, undisturbed=True) is None


@pytest.mark.parametrize(
    ("build", "kind", "quality"),
    [(made_up.labelled_build, "accuracy", 0.01), (made_up.unlabelled_build, "agreement", 0.95)],
)
def test_the_limit_on_quality_is_on_what_was_measured(build, kind, quality):
    entries = entries_of(build())
    assert quality_kind(entries) == kind
    assert default_limits(entries) == Limits(quality=quality)


def test_sqnr_is_the_last_resort():
    result = made_up.result(accuracy=made_up.measured(None, None, 30.0))
    entries = entries_of(((result,), ()))
    assert quality_kind(entries) == "sqnr"
    assert chosen(entries, quality=20.0) == "host-openvino fp32"
    nothing = entries_of(((made_up.result(),), ()))
    assert quality_kind(nothing) == "none"
    assert chosen(nothing, quality=0.5) == "host-openvino fp32"


def test_all_are_ranked_by_one_percentile():
    """A row with too few queries for a p90 must not win by its p50; where most have none, all are ranked by p50."""
    quick = made_up.result("a", median_ms=4.0, queries=40)
    slow = [made_up.result(name, median_ms=5.0) for name in ("b", "c")]
    (group,) = make_groups((quick, *slow), ())
    assert group.entries[choose(group.entries, Limits()).best].target in ("b", "c")
    assert "p90: not enough queries (40), so it is not compared" in to_html((quick, *slow), ())
    few = [made_up.result(name, median_ms=5.0, queries=40) for name in ("b", "c")]
    (group,) = make_groups((quick, *few[:1], slow[1]), ())
    assert {e.ranked_by for e in group.entries} == {50.0}
    assert group.entries[choose(group.entries, Limits()).best].target == "a"


def test_the_latency_that_is_ranked_by_stands_beside_the_recommendation():
    page = to_html((made_up.result("a", queries=40), made_up.result("b", queries=40)), ())
    answer = page[page.index('class="stats"') :]
    assert "<dt>p50 latency</dt>" in answer[: answer.index("</dl>")]
    assert "Latency, p50" in page


# --- presets and what they exclude ------------------------------------------------------------------------------------


def test_presets_are_named_and_the_first_is_the_one_that_counts(labelled):
    assert [(p.name, p.quality) for p in presets(labelled)] == [
        ("careful", 0.01),
        ("tolerant", 0.03),
        ("any quality", None),
    ]
    assert default_limits(labelled).quality == 0.01
    unlabelled = entries_of(made_up.unlabelled_build())
    assert [p.quality for p in presets(unlabelled)] == [0.95, 0.85, None]
    assert presets(entries_of(((made_up.result(),), ()))) == ()


def with_command(*words):
    results, rows = made_up.labelled_build()
    command = ("edgepack", "build", "m.onnx", *words)
    return entries_of((results, tuple(dataclasses.replace(r, command=command) for r in rows)))


def test_a_limit_that_the_build_was_given_stands_before_ours():
    """Who built with --max-drop 0.05 has said what may be lost; a report that excludes it again knows better."""
    entries = with_command("--max-drop", "0.05")
    assert presets(entries)[0].name == "as built"
    assert default_limits(entries).quality == 0.05
    assert [p.quality for p in presets(with_command("--max-drop", "0.01"))] == [0.01, 0.03, None]
    for words in (("--max-drop", "nan"), ("--max-drop", "many"), ("--max-drop",)):
        assert presets(with_command(*words))[0].name == "careful"


def test_the_answer_says_what_the_limit_on_quality_excludes():
    results, rows = made_up.labelled_build()
    worse = made_up.accuracy(0.9034, ci95=(0.012, 0.021))
    rows = tuple(dataclasses.replace(r, accuracy=worse) if r.precision == "int8" and r.accuracy else r for r in rows)
    entries = entries_of((results, rows))
    found = choose(entries, default_limits(entries))
    assert labels(entries)[found.best] == "host-openvino fp32"
    assert labels(entries)[found.excluded] == "host-openvino int8"
    text = recommendation(entries, default_limits(entries))
    assert "The preset \u201ccareful: at most 1 point of drop\u201d excludes host-openvino int8: p90 2.36 ms" in text
    assert "1.86 times as fast as its fp32" in text
    assert "a drop of +1.64 points" in text
    assert "The limit on quality excludes" in recommendation(entries, Limits(quality=0.005))
    assert choose(entries, Limits(quality=0.03)).excluded is None


# --- never slower -----------------------------------------------------------------------------------------------------


def slower(ci95, speedup=1.01):
    """The build whose int8 of OpenVINO is ahead in its p90, and not by the paired comparison."""
    results, rows = made_up.labelled_build()
    rows = (rows[0], dataclasses.replace(rows[1], speedup_over_fp32=speedup, speedup_ci95=ci95), *rows[2:])
    return entries_of((results[:2], rows[:2]))


def test_what_is_not_faster_than_fp32_beyond_the_interval_is_not_taken():
    assert chosen(slower((0.98, 1.04))) == "host-openvino fp32"
    assert chosen(slower((0.7, 0.9), 0.8)) == "host-openvino fp32"
    assert chosen(slower((1.001, 1.04))) == "host-openvino int8"


def test_it_is_taken_where_fp32_does_not_keep_the_limits():
    assert chosen(slower((0.98, 1.04)), size_bytes=500_000) == "host-openvino int8"


def test_the_limit_is_on_the_balanced_sqnr():
    """A large output hides a lost one in the SQNR of the whole: --min-sqnr is on the balanced one, and so is this."""
    row = made_up.row(precision="int8", agreement=None, sqnr_db=30.0, balanced_sqnr_db=8.0, worst_output="scores")
    (entry,) = entries_of(((), (row,)))
    assert entry.sqnr_db == 8.0
    assert chosen((entry,), quality=10.0) is None
