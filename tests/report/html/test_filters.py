import json
import math

import made_up
import pytest

from edgepack.report.entries import labels, make_groups
from edgepack.report.entries.choice import Limits, default_limits, quality_kind, quality_of
from edgepack.report.html.filters import CURVE_POINTS, make_data, make_fields, preferences

pytestmark = pytest.mark.slow


def group_of(build):
    (group,) = make_groups(*build)
    return group


def fields_of(build):
    entries = group_of(build).entries
    return {field.key: field for field in make_fields(entries, default_limits(entries))}


def data_of(build):
    group = group_of(build)
    fields = make_fields(group.entries, default_limits(group.entries))
    return json.loads(make_data(group, labels(group.entries), fields))


def test_only_what_was_measured_can_be_limited():
    assert list(fields_of(made_up.labelled_build())) == ["latency", "quality", "size", "memory"]
    assert list(fields_of(made_up.full_build())) == ["latency", "quality", "size", "memory", "energy"]


def test_no_row_lies_beyond_a_slider():
    for build in (made_up.labelled_build(), made_up.unlabelled_build(), made_up.full_build(), made_up.many()):
        group, fields = group_of(build), fields_of(build)
        kind = quality_kind(group.entries)
        values = [v for e in group.entries if e.status == "ok" and (v := quality_of(e, kind)) is not None]
        low, high = float(fields["quality"].low), float(fields["quality"].high)
        assert low <= min(values) / fields["quality"].factor
        assert high >= max(values) / fields["quality"].factor * (1 - 1e-9)
        latencies = [e["latency"][0] / fields["latency"].factor for e in data_of(build)["entries"] if "latency" in e]
        assert float(fields["latency"].low) <= min(latencies)
        assert max(latencies) <= float(fields["latency"].high)


def test_what_can_be_preferred_has_a_field_and_differs():
    known = [p.key for p in preferences(tuple(fields_of(made_up.full_build()).values()))]
    assert known == ["latency", "quality", "energy", "memory", "size"]
    (closest,) = [p for p in preferences(tuple(fields_of(made_up.unlabelled_build()).values())) if p.key == "quality"]
    assert closest.word == "closest to fp32"
    alone = make_groups((made_up.result(),), ())[0].entries
    assert [p.key for p in preferences(make_fields(alone, Limits()))] == []


def test_a_figure_comes_with_its_interval_and_what_is_unknown_is_left_out():
    entries = data_of(made_up.labelled_build())["entries"]
    latency = entries[1]["latency"]
    assert latency[1] < latency[0] < latency[2]
    assert entries[1]["quality"] == [0.0064, 0.0031, 0.0097]
    assert "latency" not in entries[4]
    assert entries[5]["failed"]
    assert "energy" not in entries[0]


def test_curves_are_packed_only_where_there_are_more_than_can_be_drawn():
    assert not any("curve" in entry for entry in data_of(made_up.full_build())["entries"])
    results, _ = made_up.many()
    by_name = {e["name"]: e for e in data_of((results, ()))["entries"]}
    entry = next(e for e in group_of((results, ())).entries if e.target == "device-03")
    steps = [int(step) for step in by_name["device-03 fp32 1 thread"]["curve"].split()]
    assert len(steps) == CURVE_POINTS
    total, values = 0, []
    for step in steps:
        total += step
        values.append(math.exp(total / 1000))
    wanted = entry.result.distribution_ns[::2]
    assert values == pytest.approx(wanted, rel=6e-4)
