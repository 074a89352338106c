from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from simulated import Machine, SimulatedWorker, subject

from edgepack.benchmark.measure import interleave
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow

SECOND = 10**9
SCENARIO = Scenario("SingleStream", 2 * SECOND, SECOND // 5)
FP32, INT8, OTHER = (Path(f"{name}.edgepack") for name in ("fp32", "int8", "other"))
ABOUT = {
    FP32: subject(sha256="1" * 64),
    INT8: subject(sha256="2" * 64, precision="int8"),
    OTHER: subject(sha256="3" * 64, target="elsewhere", precision="int8"),
}
FACTORS = {FP32: 2.0, INT8: 1.0, OTHER: 1.5}


def measure(bundles, machine=None, **special):
    machine = machine or Machine(0)
    workers = {}

    def start(bundle):
        settings = {"factor": FACTORS[bundle], "about": ABOUT[bundle], **special.get(bundle.stem, {})}
        workers[bundle] = SimulatedWorker(machine, bundle.stem, **settings)
        return workers[bundle]

    rows = interleave.measure_group(bundles, SCENARIO, RunOptions(), start, lambda done, total: None)
    assert all(worker.closed for worker in workers.values())
    return rows, machine


def test_the_speedup_over_fp32_of_the_same_target_is_paired():
    rows, _ = measure([FP32, INT8, OTHER], Machine(1, drift=0.3))
    found = rows[INT8].speedup
    assert found.ratio == pytest.approx(2, rel=0.1)
    assert found.ci95[0] < 2 < found.ci95[1]
    assert found.over == "1" * 64
    assert rows[FP32].speedup == interleave.Speedup(1.0, None, "1" * 64)
    assert rows[OTHER].speedup is None


def test_intervals_of_the_speedup_cover_the_truth():
    covered = 0
    for seed in range(100):
        rows, _ = measure([FP32, INT8], Machine(seed, launch_sd=0.0))
        low, high = rows[INT8].speedup.ci95
        covered += low <= 2 <= high
    assert covered >= 88


def test_rounds_alternate_in_direction_and_nobody_measures_twice_in_a_row_but_at_the_turn():
    _, machine = measure([FP32, INT8, OTHER])
    assert machine.turns[:6] == ["fp32", "int8", "other", "other", "int8", "fp32"]
    shares = Counter(machine.turns)
    assert max(shares.values()) <= 3 * min(shares.values())


def test_what_the_bundles_take_themselves_is_no_load_of_others(monkeypatch):
    machine = Machine(0)
    monkeypatch.setattr(interleave, "facts", lambda: {"cpu_busy_s": 0.01 * len(machine.turns)})  # of each block
    rows, _ = measure([FP32, INT8], machine)
    assert not any("other processes" in reason for row in rows.values() for reason in row.result.invalid_reasons)


def test_each_bundle_has_its_duration_and_the_queries_of_p90():
    rows, _ = measure([FP32, INT8], queries=5)
    for row in rows.values():
        assert row.result.duration_ns >= SCENARIO.duration_ns
        assert row.result.queries >= 64
        assert row.result.percentiles[1].value_ns is not None


def test_a_very_slow_bundle_ends_without_its_queries():
    rows, _ = measure([FP32], fp32={"factor": 4000.0, "queries": 1})
    result = rows[FP32].result
    assert result.queries < 64
    assert result.duration_ns < 30 * SECOND
    assert any("p90 needs" in note for note in result.notes)


def test_a_worker_that_dies_costs_its_row_only():
    rows, _ = measure([FP32, INT8], fp32={"dies_after": 3})
    assert rows[FP32].result is None
    assert "SIGSEGV" in rows[FP32].reason
    assert rows[INT8].result.queries > 64
    assert rows[INT8].speedup is None


def test_a_bundle_that_cannot_be_loaded_costs_its_row_only(tmp_path):
    broken = tmp_path / "broken.edgepack"
    broken.write_bytes(b"no zip")
    (row,) = interleave.measure_rows((broken,), SECOND // 10, RunOptions(threads=1))
    assert row.result is None
    assert "not a zip archive" in row.reason


def test_rows_say_how_they_were_measured_and_carry_memory():
    rows, _ = measure([FP32, INT8])
    result = rows[FP32].result
    assert any("in turn with 1 other bundles" in note for note in result.notes)
    assert (result.memory_load_bytes, result.memory_peak_bytes) == (10, 40)
    assert result.latencies_ns
    assert result.energy_uj is None


def test_too_few_rounds_have_no_interval():
    ratio, interval = interleave.paired_ratio([2.0, 4.0], [1.0, 2.0], 0)
    assert ratio == pytest.approx(2)
    assert interval is None


def test_paired_ratios_do_not_depend_on_drift():
    drift = np.exp(np.linspace(0, 3, 40))
    ratio, (low, high) = interleave.paired_ratio(list(3 * drift), list(2 * drift), 0)
    assert ratio == pytest.approx(1.5)
    assert (low, high) == (pytest.approx(1.5), pytest.approx(1.5))


def test_bundles_that_do_not_fit_together_are_measured_a_target_at_a_time(monkeypatch):
    targets = {"a": "pi", "b": "nuc", "c": "pi"}
    monkeypatch.setattr(interleave, "_target", lambda bundle: targets[bundle.stem])
    bundles = tuple(Path(name) for name in targets)
    assert interleave.groups_that_fit(bundles, 8e9) == [bundles]
    assert interleave.groups_that_fit(bundles, None) == [bundles]
    assert interleave.groups_that_fit(bundles, 1e9) == [(Path("a"), Path("c")), (Path("b"),)]
    assert interleave.groups_that_fit((), 1e9) == []


def test_a_real_bundle_in_turn_with_itself_under_another_name(tmp_path):
    import shutil

    from small_bundles import small_bundle

    first = small_bundle(tmp_path)
    second = Path(shutil.copy(first, tmp_path / "copy.edgepack"))
    seen = []
    rows = interleave.measure_rows(
        (first, second), SECOND // 2, RunOptions(threads=1), progress=lambda *step: seen.append(step)
    )
    assert [row.bundle for row in rows] == [first, second]
    assert all(row.result.queries >= 64 and row.result.memory_peak_bytes > 1 << 20 for row in rows)
    assert seen[-1][1] == seen[-1][2]
