import numpy as np
import pytest

from edgepack.benchmark.measure import server
from edgepack.specs.result import Scenario

pytestmark = pytest.mark.long


class Simulated:
    """A runner with a fixed service time in simulated time, so that the queue is M/D/1."""

    def __init__(self, service_ns):
        self.now = 0
        self.service_ns = service_ns

    def clock(self):
        self.now += 20
        return self.now

    def issue(self, _query):
        self.now += self.service_ns

    def sleep(self, seconds):
        self.now += round(seconds * 1e9)


class NoSpin(Simulated):
    """The same, but the clock jumps over the time that the loop would spin."""

    def clock(self):
        self.now += 50_000
        return self.now


def search(runner, bound_ns, duration_ns=10**9):
    scenario = Scenario("Server", duration_ns, 0, latency_bound_ns=bound_ns)
    return server.find_rate(runner.issue, [0], scenario, clock=runner.clock, sleep=runner.sleep)


def md1_p99_ns(rate, service_ns, count=400_000):
    """The p99 of time in an M/D/1 queue, by Lindley's recursion over simulated arrivals."""
    gaps = np.random.default_rng(1).exponential(1e9 / rate, count)
    waits = np.empty(count)
    waits[0] = 0
    for i in range(1, count):
        waits[i] = max(0.0, waits[i - 1] + service_ns - gaps[i])
    return float(np.sort(waits)[int(0.99 * count)]) + service_ns


def test_the_rate_found_keeps_the_bound_and_a_higher_one_would_not():
    service_ns, bound_ns = 10_000_000, 40_000_000
    found = search(NoSpin(service_ns), bound_ns, duration_ns=120 * 10**9)
    assert md1_p99_ns(found.rate, service_ns) <= bound_ns
    assert md1_p99_ns(found.rate * 1.25, service_ns) > bound_ns
    assert found.timed.latencies.max() >= service_ns


def test_a_bound_below_the_service_time_allows_no_rate():
    found = search(NoSpin(10_000_000), 9_000_000)
    assert found.rate == 0
    assert found.attempts >= 5


def test_a_looser_bound_allows_a_higher_rate():
    tight, loose = (search(NoSpin(10_000_000), b).rate for b in (20_000_000, 200_000_000))
    assert tight < loose < 100


def test_the_confirming_run_is_as_long_as_asked():
    found = search(NoSpin(10_000_000), 40_000_000, duration_ns=60 * 10**9)
    assert len(found.timed.latencies) == pytest.approx(found.rate * 60, rel=0.01)
    assert found.timed.duration_ns == pytest.approx(60e9, rel=0.1)


def test_arrivals_are_poisson():
    arrivals = server.poisson_arrivals(1000.0, 100_000, 3)
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1e6, rel=0.02)
    assert gaps.std() == pytest.approx(1e6, rel=0.02)
    assert arrivals.tolist() == server.poisson_arrivals(1000.0, 100_000, 3).tolist()
