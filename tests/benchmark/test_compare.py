import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import pytest
from simulated import Machine, SimulatedWorker, subject

from edgepack.benchmark import compare
from edgepack.benchmark.measure.worker import Open
from edgepack.errors import BundleError, ConfigError
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow

SECOND = 10**9
PAIR = tuple(
    Open(Path(f"{name}.edgepack"), Scenario("SingleStream", SECOND, SECOND // 5), RunOptions()) for name in "ab"
)


def ticking(launch_s=5):
    """A clock that moves 5 s at each look: simulated launches take no time, and a minute shall hold twelve."""
    times = itertools.count(0, launch_s)
    return lambda: float(next(times))


def run(seed, factor, machine=None, **options):
    machine = machine or Machine(seed)
    workers = []

    def start(name):
        workers.append(SimulatedWorker(machine, name, factor if name == "b" else 1.0))
        return workers[-1]

    clock = ticking(options.pop("launch_s", 5))
    found = compare.compare_with(
        start, PAIR, options.pop("duration_ns", 60 * SECOND), seed=seed, clock=clock, **options
    )
    assert all(worker.closed for worker in workers)
    return found, machine


def test_a_bundle_is_not_faster_than_itself_in_95_of_100_comparisons():
    verdicts = Counter(run(seed, 1.0)[0].verdict for seed in range(100))
    assert verdicts["same"] + verdicts["undecided"] >= 95


def test_a_bundle_is_the_same_as_itself_in_95_of_100_comparisons_where_a_minute_can_tell():
    """The latency drifts by 2 % from turn to turn; loading leaves room for as many rounds as on a real machine."""
    verdicts = Counter(run(seed, 1.0, Machine(seed, drift=0.02), launch_s=3)[0].verdict for seed in range(100))
    assert verdicts["same"] >= 95


def test_its_interval_covers_no_difference():
    covered = sum(low <= 1 <= high for low, high in (run(seed, 1.0)[0].ci95 for seed in range(100)))
    assert covered >= 93


def test_a_slowdown_of_three_per_cent_is_found():
    verdicts = Counter(run(seed, 1.03)[0].verdict for seed in range(50))
    assert verdicts["slower"] >= 45
    assert verdicts["faster"] == verdicts["same"] == 0


def test_a_large_difference_ends_half_way():
    found, _ = run(1, 0.5)
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(0.5, rel=0.05)
    assert len(found.launches) == 6


def test_where_noise_hides_it_the_answer_is_undecided_with_the_minutes_needed():
    found = [run(seed, 1.03, Machine(seed, launch_sd=0.3))[0] for seed in range(20)]
    undecided = [f for f in found if f.verdict == "undecided"]
    assert len(undecided) >= 17
    assert all(f.minutes_needed > 1 for f in undecided)
    assert all(f.minutes_needed is None for f in found if f.verdict != "undecided")


def test_they_take_turns_and_who_begins_alternates():
    _, machine = run(2, 1.0)
    first_launch = "".join(machine.turns[:64])
    assert first_launch == "abba" * 16
    begins = "".join(machine.turns[i] for i in range(0, len(machine.turns), 64))
    assert set(begins[:4]) == {"a", "b"}


def test_the_seed_decides_who_begins():
    assert run(0, 1.0)[1].turns[0] == "a"
    assert run(1, 1.0)[1].turns[0] == "b"


def test_the_same_measurements_give_the_same_comparison():
    assert run(4, 1.01)[0].ratio == run(4, 1.01)[0].ratio


def test_bundles_of_different_models_are_named_so():
    machine = Machine(0)

    def start(name):
        return SimulatedWorker(machine, name, about=subject(source=name * 32, sha256=name * 64))

    found = compare.compare_with(start, PAIR, 60 * SECOND, seed=0)
    assert "the two bundles were built from different models" in found.notes


def test_progress_counts_launches():
    seen = []
    run(5, 1.0, progress=lambda what, done, total: seen.append((done, total)))
    assert seen[0] == (1, 12)
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))


def test_a_worker_that_cannot_open_leaves_none_running():
    workers = []

    class Refusing(SimulatedWorker):
        def ask(self, request):
            raise BundleError("b.edgepack is not a bundle")

    def start(name):
        workers.append(Refusing(Machine(0), name))
        return workers[-1]

    with pytest.raises(BundleError):
        compare.compare_with(start, PAIR, 60 * SECOND, seed=0)
    assert len(workers) == 2
    assert all(worker.closed for worker in workers)


@pytest.mark.parametrize(
    ("duration_ns", "margin", "words"), [(10, 0.01, "at least a second"), (SECOND, -1, "not a fraction")]
)
def test_settings_without_sense_are_refused(duration_ns, margin, words):
    with pytest.raises(ConfigError, match=words):
        run(0, 1.0, duration_ns=duration_ns, margin=margin)


def test_the_plan_fills_the_time():
    launch = compare.Launch((), None, (0, 0), 0.0, wall_ns=5 * SECOND, round_ns=SECOND // 10)
    assert compare.plan_launches(60 * SECOND, launch, 8) == (12, 8)
    assert compare.plan_launches(1 * SECOND, launch, 8) == (3, 8)
    quick = dataclasses.replace(launch, wall_ns=2 * SECOND)
    assert compare.plan_launches(60 * SECOND, quick, 8) == (12, 8 + 30)
    slow = dataclasses.replace(quick, round_ns=SECOND)
    assert compare.plan_launches(60 * SECOND, slow, 8) == (12, 8 + 3), "a slow model has fewer rounds in the same time"


def test_a_longer_time_has_more_launches_for_the_interval_is_made_of_them():
    launch = compare.Launch((), None, (0, 0), 0.0, wall_ns=5 * SECOND, round_ns=SECOND // 10)
    assert compare.plan_launches(600 * SECOND, launch, 8) == (120, 8)
    assert compare.plan_launches(600 * SECOND, dataclasses.replace(launch, wall_ns=20 * SECOND), 8) == (30, 8)


def test_a_launch_says_what_its_rounds_take():
    """Twenty queries of about a millisecond a turn, and what warms the caches again before each."""
    seen = []
    machine = Machine(0, drift=0.0, spikes=0.0)

    class Worker(SimulatedWorker):
        def ask(self, request):
            seen.append(request)
            return super().ask(request)

    pair = (Open(Path("a"), PAIR[0].scenario, RunOptions()), Open(Path("b"), PAIR[0].scenario, RunOptions()))
    costs = (compare.median_latency, compare.median_latency)
    launch = compare._launch(lambda name: Worker(machine, name), pair, 4, ticking(), costs, reverse=False)
    refresh_ns = next(request.refresh_ns for request in seen if not isinstance(request, Open))
    assert launch.round_ns == pytest.approx(2 * (20e6 + refresh_ns), rel=0.05)


def test_a_machine_that_becomes_busy_does_not_make_it_take_longer():
    """Launches take 5 s at first and 30 s from the third on: a minute is over before the twelve that were planned."""
    steps = iter([0.0, 0.0, 5.0, 5.0, 10.0, 10.0, 40.0, *[float(t) for t in range(40, 4000, 30)]])
    machine = Machine(0)
    found = compare.compare_with(
        lambda name: SimulatedWorker(machine, name), PAIR, 60 * SECOND, seed=0, clock=lambda: next(steps)
    )
    assert len(found.launches) <= 4
