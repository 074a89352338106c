import gc
import time

import numpy as np
import pytest

from edgepack.benchmark.measure import loop

pytestmark = pytest.mark.slow


class FakeTime:
    """A clock that only moves when a query is served or somebody sleeps; made-up times."""

    def __init__(self, costs):
        self.now = 1_000
        self.costs = iter(costs)
        self.issued = []
        self.slept = []

    def clock(self):
        return self.now

    def issue(self, query):
        self.issued.append(query)
        self.now += next(self.costs)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)


class Spinning(FakeTime):
    """Each look at the clock takes 1000 ns, so that spinning ends."""

    def clock(self):
        self.now += 1000
        return self.now


def forever(cost):
    while True:
        yield cost


def test_latencies_are_in_the_order_of_issue_and_queries_in_turn():
    time = FakeTime([5, 7, 11, 13])
    timed = loop.closed_loop(time.issue, ["a", "b", "c"], 30, clock=time.clock)
    assert timed.latencies.tolist() == [5, 7, 11, 13]
    assert timed.duration_ns == 36
    assert time.issued == ["a", "b", "c", "a"]


def test_both_minima_must_be_reached():
    time = FakeTime(forever(10))
    assert len(loop.closed_loop(time.issue, [0], 25, minimum_queries=64, clock=time.clock).latencies) == 64
    assert len(loop.closed_loop(time.issue, [0], 1000, minimum_queries=64, clock=time.clock).latencies) == 100


def test_the_maximum_ends_a_slow_run_before_the_queries_are_enough():
    time = FakeTime(forever(10))
    timed = loop.closed_loop(time.issue, [0], 25, minimum_queries=64, maximum_ns=100, clock=time.clock)
    assert len(timed.latencies) == 10


def test_it_begins_with_the_query_asked_for():
    time = FakeTime(forever(10))
    loop.closed_loop(time.issue, [0, 1, 2], 30, first=2, clock=time.clock)
    assert time.issued == [2, 0, 1]


def test_more_latencies_than_the_first_array_holds_are_kept():
    time = FakeTime(iter(range(1, 20_000)))
    timed = loop.closed_loop(time.issue, [0], 0, minimum_queries=10_000, clock=time.clock)
    assert timed.latencies.tolist() == list(range(1, 10_001))


def test_garbage_collection_is_off_inside_and_as_before_afterwards():
    seen = []
    time = FakeTime(forever(10))

    def issue(query):
        seen.append(gc.isenabled())
        time.issue(query)

    loop.closed_loop(issue, [0], 20, clock=time.clock)
    assert seen == [False, False]
    assert gc.isenabled()


def test_garbage_collection_is_on_again_after_a_failure():
    def fail(_query):
        raise ValueError("the runner failed")

    with pytest.raises(ValueError, match="the runner failed"):
        loop.closed_loop(fail, [0], 20)
    assert gc.isenabled()


def test_garbage_collection_that_was_off_stays_off():
    gc.disable()
    try:
        loop.closed_loop(lambda _: None, [0], 0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_warm_up_ends_when_the_windows_agree():
    time = FakeTime([500, 400, 300, 200, 100, *[10] * 1000])
    warmup = loop.warm_up(time.issue, [0], 600, clock=time.clock)
    assert warmup.stable
    assert warmup.duration_ns >= 600
    assert warmup.queries == len(time.issued)


def test_warm_up_goes_on_until_stable_beyond_the_minimum():
    rising = [100 * 2 ** (i // 6) for i in range(24)]
    time = FakeTime([*rising[::-1], *[50] * 1000])
    warmup = loop.warm_up(time.issue, [0], 6000, clock=time.clock)
    assert warmup.stable
    assert warmup.duration_ns > 6000


def test_warm_up_that_never_settles_ends_and_says_so():
    time = FakeTime(1000 + 300 * (i // 5 % 2) for i in range(100_000))
    warmup = loop.warm_up(time.issue, [0], 20_000, clock=time.clock)
    assert not warmup.stable
    assert 80_000 <= warmup.duration_ns < 100_000


def test_arrivals_are_awaited_and_waiting_in_line_counts():
    time = Spinning(forever(500_000))
    arrivals = np.array([0, 2_000_000, 2_100_000])
    timed = loop.poisson_loop(
        time.issue, ["a", "b"], arrivals, bound_ns=10**9, most_late=0, clock=time.clock, sleep=time.sleep
    )
    first, second, third = timed.latencies.tolist()
    assert 500_000 <= first <= 510_000
    assert 500_000 <= second <= 510_000
    assert 900_000 <= third <= 910_000
    assert len(time.slept) == 1


def test_a_run_that_cannot_keep_its_bound_any_more_ends():
    time = Spinning(forever(500_000))
    timed = loop.poisson_loop(
        time.issue, [0], np.arange(100) * 1000, bound_ns=600_000, most_late=3, clock=time.clock, sleep=time.sleep
    )
    assert len(timed.latencies) == 5
    assert (timed.latencies > 600_000).sum() == 4


def test_the_first_query_of_a_poisson_run_is_the_first():
    time = Spinning(forever(10))
    loop.poisson_loop(
        time.issue, ["a", "b", "c"], np.arange(4), bound_ns=10**9, most_late=0, clock=time.clock, sleep=time.sleep
    )
    assert time.issued == ["a", "b", "c", "a"]


def test_several_queries_run_at_once_and_each_thread_deals_with_its_own():
    """Four runners that sleep 5 ms: in 100 ms four times as many queries are done, and none by two runners."""
    seen = [[] for _ in range(4)]

    def runner(number):
        def issue(query):
            seen[number].append(query)
            time.sleep(0.005)

        return issue

    timed = loop.parallel_loop([runner(i) for i in range(4)], list(range(10)), 100_000_000, minimum_queries=8)
    count = sum(map(len, seen))
    assert len(timed.latencies) == count
    assert min(map(len, seen)) >= 2
    assert all(latency >= 5_000_000 for latency in timed.latencies)
    assert timed.duration_ns >= 100_000_000
    assert int(timed.latencies.sum()) > 1.5 * timed.duration_ns
    assert [queries[0] for queries in seen] == [0, 1, 2, 3]


def test_a_failure_in_one_thread_is_raised():
    def fail(query):
        raise ValueError("this one fails")

    with pytest.raises(ValueError, match="this one fails"):
        loop.parallel_loop([lambda query: None, fail], [0], 1_000_000)
