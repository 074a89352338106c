"""Bounds of devices that were not measured, from their shipped profiles."""

import dataclasses

import made_up
import pytest

from edgepack.report import units
from edgepack.report.entries import make_groups
from edgepack.report.entries.choice import Limits, choose
from edgepack.report.entries.profile import is_elsewhere, profile_of
from edgepack.report.text.bounds import bound_of
from edgepack.report.text.table import column, make_table


def entry_of(target="jetson-orin-nano-jp6", precision="int8", **changes):
    (group,) = make_groups((), (made_up.row(target, precision, facts=made_up.FACTS, **changes),))
    return group.entries[0]


def test_arithmetic_is_twice_the_multiply_adds_at_the_peak_of_the_precision():
    peak = profile_of("jetson-orin-nano-jp6").limits.peak_ops_per_s["int8"]
    found = bound_of(entry_of())
    assert found.by == "arithmetic"
    assert found.ns == pytest.approx(2 * 391_000_000 * 1e9 / peak, rel=1e-3)
    assert "bound of the profile, not measured" in found.text


def test_memory_counts_what_no_cache_holds():
    """16 MiB may stay in a cache from one sample to the next: with 116 MiB of weights 100 MiB must move each time."""
    large = entry_of(size_bytes=120 << 20, model_bytes=116 << 20)
    found = bound_of(dataclasses.replace(large, precision="bf16"))
    bandwidth = profile_of("jetson-orin-nano-jp6").limits.bandwidth_bytes_per_s
    assert (found.by, found.ns) == ("memory", round((100 << 20) * 1e9 / bandwidth))
    assert bound_of(entry_of("raspberry-pi-5", size_bytes=1 << 20)) is None, "its caches may hold it"


def test_what_was_measured_or_has_no_profile_has_no_bound():
    (group,) = make_groups(*made_up.labelled_build())
    assert [bound_of(e) for e in group.entries] == [None] * 6
    assert bound_of(entry_of("my-board")) is None
    assert bound_of(entry_of(status="failed")) is None
    assert bound_of(entry_of("host-openvino")) is None
    assert is_elsewhere(entry_of()) is True


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "x.toml", "host-openvino", "a" * 200, "", "jetson\x00"])
def test_no_file_is_read_that_a_document_names(name):
    assert profile_of(name) is None


def test_a_bound_stands_beside_measurements_and_is_never_ranked():
    (group,) = make_groups(*made_up.full_build())
    table = make_table(group)
    index = next(i for i, e in enumerate(group.entries) if e.target == "jetson-orin-nano-jp6")
    cell = column(table, "p50").cells[index]
    assert (cell.text, cell.order) == (units.NONE, None)
    assert cell.detail == "bound ≥ 0.0391"
    assert column(table, "bound") is None
    assert group.entries[choose(group.entries, Limits()).best].target != "jetson-orin-nano-jp6"
    assert any("takes no part in a choice" in note for note in table.footnotes)


def test_where_nothing_was_measured_bounds_have_a_column_that_says_so():
    _, rows = made_up.unmeasured_build()
    (group,) = make_groups((), tuple(dataclasses.replace(row, facts=made_up.FACTS) for row in rows))
    bounds = column(make_table(group), "bound")
    assert "not measured" in bounds.heading
    assert {cell.text[:2] for cell in bounds.cells if cell.order is not None} == {"≥ "}
