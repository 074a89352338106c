# ruff: noqa: RUF001  the true minus and dash are what is tested

import made_up

from edgepack.report.entries import make_groups
from edgepack.report.text.table import column, make_table
from edgepack.specs.result import Scenario


def table_of(build):
    (group,) = make_groups(*build)
    return make_table(group)


def texts(table, key):
    return [cell.text for cell in column(table, key).cells]


def test_latencies_share_a_unit_and_have_intervals():
    table = table_of(made_up.labelled_build())
    p50 = column(table, "p50")
    assert p50.unit == "ms"
    assert p50.cells[0].text == "4.11"
    assert "–" in p50.cells[0].detail
    assert [c.text for c in p50.cells[4:]] == ["–", "–"]


def test_columns_of_what_nobody_measured_are_left_out():
    table = table_of(made_up.labelled_build())
    assert column(table, "energy") is None
    assert column(table, "agreement") is None
    assert column(table_of(made_up.unlabelled_build()), "accuracy") is None


def test_marks_say_how_far_each_got():
    assert table_of(made_up.labelled_build()).marks == ("measured",) * 4 + ("unmeasured", "failed")
    assert table_of(made_up.unlabelled_build()).marks == ("disturbed",) * 4 + ("unmeasured", "failed")


def test_without_labels_the_table_says_so():
    table = table_of(made_up.unlabelled_build())
    assert any("accuracy was not measured: no labels" in note and "n = 200" in note for note in table.footnotes)
    assert texts(table, "agreement")[:2] == ["100.0", "97.3"]


def test_a_percentile_without_queries_enough_says_how_many_more():
    table = table_of(((made_up.result(queries=100), made_up.result(precision="int8", queries=1000)), ()))
    cell = column(table, "p99").cells[0]
    assert (cell.text, cell.detail) == ("–", "562 more queries")


def test_offline_shows_throughput_and_no_latency_of_a_batch():
    offline = made_up.result(scenario=Scenario("Offline", 10**9, 10**8, batch=16))
    single = made_up.result("host-openvino", "int8")
    table = table_of(((offline, single), ()))
    assert texts(table, "throughput")[0] != "–"
    assert texts(table, "p50")[0] == "–"
    assert column(table, "target").cells[0].detail == "Offline, batch 16"
    assert table.marks[0] == "measured"


def test_unpaired_speedups_are_marked():
    table = table_of(((made_up.result(), made_up.result(precision="int8", median_ms=2.0)), ()))
    assert column(table, "speedup").cells[1].detail.endswith("†")
    assert any("not in turn" in note for note in table.footnotes)
    assert not any("†" in c.detail for c in column(table_of(made_up.labelled_build()), "speedup").cells)


def test_a_metric_of_the_users_own_is_not_read_as_per_cent():
    quality = made_up.accuracy(12.5, 13.0, ci95=(0.1, 0.9), metric="mine:loss")
    table = table_of(((made_up.result(accuracy=made_up.measured(quality)),), ()))
    assert column(table, "accuracy").unit == ""
    assert texts(table, "accuracy") == ["12.50"]
    assert texts(table, "drop") == ["+0.50"]


def test_energy_is_shown_where_it_was_measured():
    table = table_of(((made_up.result(energy_uj=1500, energy_source="RAPL"),), ()))
    assert texts(table, "energy") == ["1.50"]
    assert column(table, "energy").unit == "mJ"
