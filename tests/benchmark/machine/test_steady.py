"""When a machine is as warm as it stays: on a simulated board, whose clock and temperature the tests set."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from edgepack.benchmark.machine.steady import until_steady
from edgepack.specs.result import Steady

S = 10**9


class Board:
    """A simulated board: temperature and latency are functions of the seconds that it has run."""

    def __init__(self, warm: Callable[[float], float] | None, latency: Callable[[float], float]) -> None:
        self.now, self._warm, self._latency = 0, warm, latency
        self.throttled = 0.0

    def run(self, block_ns: int) -> tuple[int, ...]:
        self.now += block_ns
        return (round(self._latency(self.now / S) * 1e6),) * 5

    def facts(self) -> dict[str, float]:
        warm = {} if self._warm is None else {"temperature_c": self._warm(self.now / S)}
        return {**warm, "throttle_count": self.throttled if self.now else 0.0}

    def settle(self, most_s: float) -> Steady:
        return until_steady(self.run, self.facts, round(most_s * S), clock=lambda: self.now)


def rising(seconds: float) -> float:
    """As a board without a fan does: to 80 degrees, two thirds of the way in 100 s."""
    return 80 - 40 * math.exp(-seconds / 100)


def test_it_waits_until_the_temperature_stays() -> None:
    found = Board(rising, lambda _: 5.0).settle(3600)
    assert found.reached
    assert found.temperature_before_c == 40
    assert found.temperature_c == pytest.approx(rising(found.duration_ns / S))
    end = found.duration_ns / S
    assert rising(end) - rising(end - 60) <= 1
    assert rising(end - 8) - rising(end - 68) > 1, "not much later than it could"


def test_it_waits_until_the_latency_stays() -> None:
    found = Board(lambda _: 50.0, lambda s: 5.0 if s < 200 else 9.0).settle(3600)
    assert found.reached
    assert found.duration_ns / S < 200, "what has been steady for a minute is steady"
    found = Board(lambda _: 50.0, lambda s: 5.0 + min(s, 200) / 50).settle(3600)
    assert 230 <= found.duration_ns / S <= 270


def test_without_a_sensor_latencies_alone_are_judged() -> None:
    found = Board(None, lambda s: 5.0 + min(s, 100) / 50).settle(3600)
    assert found.reached
    assert found.temperature_c is None
    assert 130 <= found.duration_ns / S <= 170


def test_it_gives_up_in_time_and_says_so() -> None:
    found = Board(rising, lambda _: 5.0).settle(90)
    assert not found.reached
    assert 90 <= found.duration_ns / S <= 92


def test_a_short_time_is_never_steady() -> None:
    assert not Board(lambda _: 50.0, lambda _: 5.0).settle(30).reached


def test_throttling_meanwhile_is_said() -> None:
    board = Board(lambda _: 50.0, lambda _: 5.0)
    board.throttled = 7
    assert board.settle(3600).slowed == ("the CPU throttled for heat or power 7 times",)
