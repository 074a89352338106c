"""What records tell of kernels that were not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tuning_cases import DEPTHWISE, POINTWISE, WIDE, WINDOW, Simulated, empty, optimum, record

from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Choice, rule, tiles
from edgepack.engines.tvm.cost_model import Model, chooser
from edgepack.engines.tvm.records import Record, Records, Trial
from edgepack.engines.tvm.tuning.search import Used, search

pytestmark = pytest.mark.slow

BETTER = Blocking(1, 8, 2, 16, False)


def with_records(folder: Path, *records: Record) -> Records:
    found = empty(folder)
    for made in records:
        found.add(made)
    return found


def test_without_records_the_rule_chooses(tmp_path: Path) -> None:
    choose = chooser(empty(tmp_path))
    for workload in (POINTWISE, WINDOW, DEPTHWISE):
        assert choose(workload) == Choice(rule(workload, WIDE))


def test_a_measured_kernel_has_its_own_tile(tmp_path: Path) -> None:
    choose = chooser(with_records(tmp_path, record(POINTWISE, {BETTER: 0.8}), record(WINDOW, {})))
    assert choose(POINTWISE) == Choice(BETTER, "tuned")
    assert choose(WINDOW) == Choice(rule(WINDOW, WIDE), "rule")


def test_a_kernel_near_a_measured_one_has_its_tile(tmp_path: Path) -> None:
    choose = chooser(with_records(tmp_path, record(POINTWISE, {BETTER: 0.7})))
    assert choose(replace(POINTWISE, outputs=320)) == Choice(BETTER, "transferred")


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": 4096},
        {"types": ("uint8", "int8", "int32")},
        {"kind": "window", "height": 56, "width": 56},
    ],
)
def test_a_kernel_far_from_all_measured_ones_has_the_rules(tmp_path: Path, changes: dict[str, object]) -> None:
    other = replace(POINTWISE, **changes)  # type: ignore[arg-type]
    assert chooser(with_records(tmp_path, record(POINTWISE, {BETTER: 0.7})))(other).origin == "rule"


def test_a_neighbour_that_is_far_is_not_believed_whatever_it_gained(tmp_path: Path) -> None:
    choose = chooser(with_records(tmp_path, record(POINTWISE, {BETTER: 0.02})))
    assert choose(replace(POINTWISE, outputs=320)).origin == "transferred"
    assert choose(replace(POINTWISE, outputs=2048)).origin == "rule"


def test_a_gain_that_is_small_is_not_transferred(tmp_path: Path) -> None:
    assert (
        chooser(with_records(tmp_path, record(POINTWISE, {BETTER: 0.97})))(replace(POINTWISE, outputs=320)).origin
        == "rule"
    )


def test_a_tile_that_does_not_fit_is_never_chosen(tmp_path: Path) -> None:
    """Records may come from elsewhere: a tile that cannot be is passed over, for the kernel itself and for others."""
    impossible = Blocking(1, 31, 8, 16, False)
    choose = chooser(with_records(tmp_path, record(POINTWISE, {impossible: 0.1})))
    assert choose(POINTWISE).origin == "rule"
    assert choose(replace(POINTWISE, outputs=320)).origin == "rule"


def test_the_prediction_orders_unseen_tiles_as_the_truth_does(tmp_path: Path) -> None:
    """After some kernels of a family were measured, the best fifth predicted for another holds one of its best."""
    records, device = empty(tmp_path), Simulated(noise=0.0)
    used = [Used(replace(POINTWISE, outputs=outputs), 1) for outputs in (128, 192, 320, 384)]
    search(used, records, device, 60_000_000_000, 0, cpu="", now=lambda: "", clock_ns=device.clock_ns)
    model, listed = Model(records), list(tiles(POINTWISE, WIDE))
    predicted = model.by_time(POINTWISE, listed)
    best = min(optimum(POINTWISE, t) for t in listed)
    assert min(optimum(POINTWISE, t) for t in predicted[: len(listed) // 5]) <= 1.02 * best
    assert optimum(POINTWISE, predicted[0]) < optimum(POINTWISE, rule(POINTWISE, WIDE))


def test_what_neighbours_weigh_falls_with_distance(tmp_path: Path) -> None:
    model = Model(with_records(tmp_path, record(POINTWISE, {BETTER: 0.7})))
    weights = [model.log_ns(replace(POINTWISE, outputs=n), [BETTER])[1][0] for n in (256, 384, 512, 2048)]
    assert weights == sorted(weights, reverse=True)
    assert model.log_ns(WINDOW, [BETTER])[1][0] == 0


def test_a_trial_of_the_rule_counts_too(tmp_path: Path) -> None:
    """That a family's kernels all take longer than counted says nothing for one tile against another."""
    slow = replace(record(POINTWISE, {BETTER: 1.0}), best=None, rule_ns=1e9, trials=(Trial(BETTER, 1.0),))
    assert chooser(with_records(tmp_path, slow))(replace(POINTWISE, outputs=320)).origin == "rule"
