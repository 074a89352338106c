import dataclasses
import re

import made_up
import pytest

from edgepack.report.entries import labels, make_groups
from edgepack.report.figures import roofline
from edgepack.report.figures.roofline import MOST_PANELS, left_out, panels, peaks_text


def of(*results):
    (group,) = make_groups(tuple(results), ())
    return panels(group.entries, labels(group.entries))


@pytest.fixture
def panel():
    (found,) = of(made_up.result(precision="int8", limit=made_up.limit(2_000_000)))
    return found


def test_the_ten_costliest_layers_have_bars_with_their_floor(panel):
    limit = made_up.limit(2_000_000)
    assert tuple(bar.name for bar in panel.bars) == limit.costliest
    by_name = {layer.name: layer for layer in limit.layers}
    longest = max(layer.time_ns for layer in limit.layers)
    for bar in panel.bars:
        layer = by_name[bar.name]
        assert bar.percent == pytest.approx(100 * layer.time_ns / longest)
        assert bar.floor == pytest.approx(100 * layer.floor_ns / longest)
        assert bar.reason == layer.reason
    rest = sum(layer.time_ns for layer in limit.layers if layer.name not in limit.costliest)
    assert panel.others == f"5 more layers took {rest / 1000:.1f} µs together"


def test_every_other_layer_has_a_row_the_costliest_first(panel):
    limit = made_up.limit(2_000_000)
    others = {layer.name: layer for layer in limit.layers if layer.name not in limit.costliest}
    assert {row[0] for row in panel.rest} == others.keys()
    assert {row[0] for row in panel.rest} | {bar.name for bar in panel.bars} == {layer.name for layer in limit.layers}
    times = [others[row[0]].time_ns for row in panel.rest]
    assert times == sorted(times, reverse=True)
    name, operator, time, share, bound = panel.rest[0]
    assert (operator, time) == (others[name].operator, f"{times[0] / 1000:.1f} µs")
    assert float(share) == pytest.approx(100 * times[0] / sum(layer.time_ns for layer in limit.layers), abs=0.06)
    assert bound == roofline.BOUNDS[others[name].bound][1]


def test_of_very_many_layers_the_costliest_have_rows_and_the_page_says_so():
    limit = made_up.limit(2_000_000)
    layer = limit.layers[0]
    many = tuple(dataclasses.replace(layer, name=f"/l{i}", time_ns=i + 1) for i in range(1000))
    (panel,) = of(made_up.result(limit=dataclasses.replace(limit, layers=many, costliest=())))
    assert [row[0] for row in panel.rest] == [f"/l{i}" for i in range(989, 689, -1)]
    assert panel.others.startswith("990 more layers took ")
    assert panel.others.endswith("; the slowest 300")


def test_no_table_where_every_layer_has_a_bar():
    limit = made_up.limit(2_000_000)
    (panel,) = of(made_up.result(limit=dataclasses.replace(limit, layers=limit.layers[:3], costliest=())))
    assert (panel.others, panel.rest) == ("", ())


def test_a_floor_above_the_time_does_not_leave_its_bar():
    limit = made_up.limit(2_000_000)
    layers = tuple(dataclasses.replace(layer, floor_ns=2 * layer.time_ns) for layer in limit.layers)
    (panel,) = of(made_up.result(limit=dataclasses.replace(limit, layers=layers)))
    assert all(bar.floor == bar.percent for bar in panel.bars)


def test_every_counted_layer_is_a_point_with_its_figures_in_words(panel):
    assert panel.plot.count('class="point bound-') == 14
    words = "/layer13/Conv (Conv, int8): 42.0 µs, 33 % of the roofline; memory: made up for layer 13"
    assert f'aria-label="{words}"' in panel.plot
    assert panel.plot.count('tabindex="0"') == 1
    assert panel.bounds == ("compute", "memory", "overhead", "precision")


def test_no_layer_is_drawn_above_the_roof_that_bounds_it(panel):
    """The made-up layers are slower than their floors, so that all their points lie below the highest roof."""
    roof = min(float(y) for y in re.findall(r'class="roof int8" d="M[\d.]+ ([\d.]+)', panel.plot))
    points = re.findall(r'bound-\w+".*?(?:cy="([\d.]+)"|points="[\d.]+,([\d.]+))', panel.plot)
    assert points
    assert all(float(circle or corner) > roof - 7 for circle, corner in points)


def test_roofs_and_bandwidths_are_named(panel):
    for text in ("int8 300 Gop/s", "fp32 90.0 Gop/s", "memory 20.0 GB/s", "caches 60.0 GB/s"):
        assert text in panel.plot
    assert peaks_text(made_up.ROOF).startswith(
        "Measured on the host with 2 threads: fp32 90.0 Gop/s (made-up MatMul 256)"
    )


def test_without_counts_there_are_bars_but_no_plot():
    limit = made_up.limit(2_000_000)
    layers = tuple(dataclasses.replace(layer, ops=None) for layer in limit.layers)
    (panel,) = of(made_up.result(limit=dataclasses.replace(limit, layers=layers)))
    assert panel.plot is None
    assert len(panel.bars) == 10


@pytest.mark.parametrize("peaks", [(), None])
def test_a_roof_that_was_not_measured_makes_no_plot(peaks):
    limit = made_up.limit(2_000_000)
    roof = dataclasses.replace(limit.roof, **({"peaks": ()} if peaks == () else {"bandwidths": ()}))
    (panel,) = of(made_up.result(limit=dataclasses.replace(limit, roof=roof)))
    assert panel.plot is None


def test_of_too_many_the_fastest_have_panels():
    results = [
        made_up.result(f"t{i:02}", median_ms=20.0 - i, limit=made_up.limit(1_000_000)) for i in range(MOST_PANELS + 3)
    ]
    (group,) = make_groups(tuple(results), ())
    found = panels(group.entries, labels(group.entries))
    assert [panel.name for panel in found] == [f"t{i:02} fp32" for i in range(3, MOST_PANELS + 3)]
    assert left_out(group.entries, found) == 3


def test_a_result_without_layers_has_no_panel():
    assert of(made_up.result()) == ()
