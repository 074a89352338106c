"""The search for faster tiles, on a simulated device whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tuning_cases import DEPTHWISE, POINTWISE, WIDE, WINDOW, Simulated, empty, optimum, record

from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Workload, rule, tiles
from edgepack.engines.tvm.records import Records, load_records
from edgepack.engines.tvm.tuning.search import Used, describe, is_faster, search
from edgepack.engines.tvm.tuning.timing import ROUNDS, Timed
from edgepack.errors import ChildError
from edgepack.specs.kernels import KernelSearch, TunedKernel

pytestmark = pytest.mark.slow

USED = [Used(POINTWISE, 3), Used(WINDOW, 2), Used(DEPTHWISE, 1)]
LONG_NS = 600_000_000_000


def run(
    records: Records, device: Simulated, budget_ns: int = LONG_NS, seed: int = 0, used: list[Used] = USED
) -> KernelSearch:
    return search(
        used, records, device, budget_ns, seed, cpu="simulated", now=lambda: "2026-02-02", clock_ns=device.clock_ns
    )


def searched(device: Simulated) -> list[Workload]:
    """Return the kernels in the order in which tiles were looked for, without the confirmations of one tile."""
    return [workload for workload, measured in device.calls if len(measured) > 2]


def workload_of(kernel: TunedKernel) -> Workload:
    """The one of ``USED`` that is said in a kernel's words."""
    return next(use.workload for use in USED if describe(use.workload) == kernel.kernel)


def best_of(workload: Workload) -> float:
    return min(optimum(workload, tile) for tile in tiles(workload, WIDE))


def test_it_comes_near_the_best_of_all_tiles(tmp_path: Path) -> None:
    records = empty(tmp_path)
    found = run(records, Simulated())
    assert found.complete
    assert [kernel.state for kernel in found.kernels].count("new") == 3
    for kernel in found.kernels:
        workload = workload_of(kernel)
        known = records.by_workload[workload]
        tile = known.best or known.rule
        assert optimum(workload, tile) <= 1.05 * best_of(workload)
        truth = optimum(workload, tile) / optimum(workload, rule(workload, WIDE))
        assert kernel.default_ns == known.rule_ns
        assert kernel.ratio == pytest.approx(truth, rel=0.02)
    assert any(kernel.ratio < 1 for kernel in found.kernels)


def test_where_all_tiles_are_alike_the_rule_stays_in_95_of_100_searches(tmp_path: Path) -> None:
    kept = 0
    for seed in range(100):
        records = empty(tmp_path / str(seed))
        device = Simulated(lambda workload, tile: 1e6, noise=0.03, seed=seed)
        run(records, device, 3_000_000_000, seed, [Used(POINTWISE, 1)])
        kept += records.by_workload[POINTWISE].best is None
    assert kept >= 95


def test_the_kernel_that_costs_most_comes_first(tmp_path: Path) -> None:
    device = Simulated()
    run(empty(tmp_path), device, used=[Used(DEPTHWISE, 1), Used(POINTWISE, 1), Used(WINDOW, 1)])
    assert searched(device)[:3] == [WINDOW, POINTWISE, DEPTHWISE]
    device = Simulated()
    run(empty(tmp_path / "calls"), device, used=[Used(WINDOW, 1), Used(POINTWISE, 1000)])
    assert device.calls[0][0] == POINTWISE


def test_the_rules_tile_is_measured_with_all_others(tmp_path: Path) -> None:
    device = Simulated()
    run(empty(tmp_path), device)
    for workload, measured in device.calls:
        assert measured[0] == rule(workload, WIDE)
        assert len(set(measured)) == len(measured)


def test_it_ends_with_the_time_and_goes_on_where_it_was(tmp_path: Path) -> None:
    records, device = empty(tmp_path), Simulated()
    first = run(records, device, 4_000_000_000)  # a search and a confirmation of each take a second
    assert not first.complete
    assert [kernel.measured for kernel in first.kernels] == [True, True, False]
    again = Simulated()
    second = run(load_records(records.path, WIDE, "0.27.0"), again)
    assert second.complete
    assert [kernel.state for kernel in second.kernels].count("known") == 2
    assert second.saved_ns == 4_000_000_000
    assert again.calls[0][0] == next(workload_of(k) for k in first.kernels if not k.measured)


def test_an_interrupted_search_has_kept_what_it_measured(tmp_path: Path) -> None:
    class Interrupted(Simulated):
        def __call__(self, workload: Workload, measured: tuple[Blocking, ...], /) -> tuple[Timed, ...]:
            if len(self.calls) == 4:
                raise KeyboardInterrupt
            return super().__call__(workload, measured)

    records = empty(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(records, Interrupted())
    assert len(load_records(records.path, WIDE, "0.27.0").by_workload) == 2


def test_the_same_seed_measures_the_same(tmp_path: Path) -> None:
    devices = [Simulated() for _ in range(3)]
    for number, (device, seed) in enumerate(zip(devices, (0, 0, 1), strict=True)):
        run(empty(tmp_path / str(number)), device, seed=seed)
    assert devices[0].calls == devices[1].calls
    assert devices[0].calls != devices[2].calls


def test_a_tile_that_crashes_the_process_is_left_out_alone(tmp_path: Path) -> None:
    bad: list[Blocking] = []

    class Crashing(Simulated):
        def __call__(self, workload: Workload, measured: tuple[Blocking, ...], /) -> tuple[Timed, ...]:
            bad[:] = bad or [measured[3]]
            if bad[0] in measured:
                raise ChildError("the process crashed (signal 11)", hint="see the log")
            return super().__call__(workload, measured)

    records = empty(tmp_path)
    found = run(records, Crashing(), used=[Used(POINTWISE, 1)])
    known = records.by_workload[POINTWISE]
    assert known.failed == (bad[0],)
    assert bad[0] not in {trial.tile for trial in known.trials}
    assert len(known.trials) > 8
    assert known.best is not None
    assert found.failures == ()


def test_a_kernel_whose_own_tile_cannot_be_built_is_told(tmp_path: Path) -> None:
    class Broken(Simulated):
        def __call__(self, workload: Workload, measured: tuple[Blocking, ...], /) -> tuple[Timed, ...]:
            return tuple(Timed(tile, failure="no such schedule") for tile in measured)

    records = empty(tmp_path)
    found = run(records, Broken(), used=[Used(POINTWISE, 1)])
    assert found.failures == (f"{describe(POINTWISE)}: no such schedule",)
    assert records.by_workload == {}
    assert not found.kernels[0].measured


def test_a_near_kernel_starts_from_what_is_known(tmp_path: Path) -> None:
    better = Blocking(1, 9, 3, 16, False)
    records = empty(tmp_path)
    records.add(record(POINTWISE, {better: 0.7}))
    near = replace(POINTWISE, outputs=288)
    device = Simulated()
    found = run(records, device, 1_000_000_000, used=[Used(near, 1)])
    assert [kernel.state for kernel in found.kernels].count("transferred") == 1
    assert device.calls[0][1][1] == better
    truth = optimum(near, better) / optimum(near, rule(near, WIDE))
    assert found.kernels[0].transfer_ratio == pytest.approx(truth, rel=0.02)


def test_a_transferred_tile_that_is_slower_is_not_used(tmp_path: Path) -> None:
    misleading = Blocking(1, 9, 3, 16, False)
    records = empty(tmp_path)
    records.add(record(POINTWISE, {misleading: 0.7}))
    near = replace(POINTWISE, outputs=288)

    def truth(workload: Workload, tile: Blocking) -> float:
        return 1e6 if tile == rule(workload, WIDE) else 1.3e6

    found = run(records, Simulated(truth), used=[Used(near, 1)])
    assert found.kernels[0].transfer_ratio == pytest.approx(1.3, rel=0.02)
    assert found.kernels[0].ratio == 1.0
    assert records.by_workload[near].best is None


def test_a_tile_that_is_not_confirmed_on_a_noisy_day_is_kept_and_a_slower_one_is_not(tmp_path: Path) -> None:
    better = Blocking(1, 9, 3, 16, False)
    for today, expected in ((0.995, better), (1.2, None)):
        records = empty(tmp_path / str(today))
        records.add(record(POINTWISE, {better: 0.8}))

        def truth(workload: Workload, tile: Blocking, today: float = today) -> float:
            return 1e6 * (1.0 if tile == rule(workload, WIDE) else today if tile == better else 1.5)

        run(records, Simulated(truth, noise=0.001), used=[Used(POINTWISE, 1)])
        assert records.by_workload[POINTWISE].best == expected


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.9] * ROUNDS, True),
        ([0.9] * (ROUNDS - 2) + [1.1] * 2, True),
        ([0.9] * (ROUNDS - 3) + [1.1] * 3, False),
        ([0.99] * ROUNDS, False),
        ([0.5] * (ROUNDS - 1), False),
        ([], False),
    ],
)
def test_faster_means_clearly_and_nearly_always(ratios: list[float], expected: bool) -> None:
    assert is_faster(ratios) is expected


def test_kernels_are_described_in_words() -> None:
    assert describe(WINDOW) == "window 3x3, 1x14x14 of 256 from 256, float32"
    assert describe(replace(WINDOW, strides=(2, 2))).startswith("window 3x3 stride 2, ")
    assert describe(POINTWISE) == "flat, 1x1x3136 of 256 from 64, float32"
