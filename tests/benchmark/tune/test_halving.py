"""Who is fastest when all take turns."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgepack.benchmark.machine.usage import Usage
from edgepack.benchmark.measure.worker import Block, Measured
from edgepack.benchmark.tune.halving import Arm, better_half, run_rounds
from edgepack.errors import ChildError

BLOCK = Block(1, 1, 1)


class Fake:
    """A worker that takes so long, and remembers the turns of all."""

    def __init__(self, name: str, ns: float, turns: list[str], dies_at: int | None = None) -> None:
        self.name, self.ns, self.turns, self.dies_at, self.asked = name, ns, turns, dies_at, 0

    def ask(self, request: Any) -> Any:
        assert request is BLOCK
        self.asked += 1
        self.turns.append(self.name)
        if self.asked == self.dies_at:
            raise ChildError("it crashed", hint="oh no")
        return Measured((int(self.ns),), int(self.ns), Usage(0.25), Usage(0.5))


def arm(name: str, ns: float, turns: list[str], **more: Any) -> Arm:
    return Arm((), Fake(name, ns, turns, **more), lambda measured: float(measured.latencies_ns[0]))  # type: ignore[arg-type]


def test_every_round_has_everyone_once_every_other_one_backwards() -> None:
    turns: list[str] = []
    run_rounds([arm(name, 10, turns) for name in "abc"], BLOCK, 0, 3)
    assert turns == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]


def test_costs_are_by_round_and_cpu_time_adds_up() -> None:
    one = arm("a", 7, [])
    run_rounds([one], BLOCK, 4, 2)
    assert one.costs == {4: 7.0, 5: 7.0}
    assert one.used.cpu_s == pytest.approx(1.5)


def test_no_cost_is_zero() -> None:
    one = arm("a", 0, [])
    run_rounds([one], BLOCK, 0, 1)
    assert one.costs == {0: 1.0}


def test_one_that_dies_is_left_out_from_then_on() -> None:
    turns: list[str] = []
    dying, other = arm("dying", 5, turns, dies_at=2), arm("other", 5, turns)
    run_rounds([dying, other], BLOCK, 0, 4)
    assert dying.failure == "it crashed (oh no)"
    assert turns.count("dying") == 2
    assert turns.count("other") == 4
    assert better_half([dying, other], other) == [other]


def test_times_are_compared_in_the_rounds_that_both_took_part_in() -> None:
    one, default = arm("a", 1, []), arm("default", 1, [])
    one.costs, default.costs = {0: 5.0, 1: 20.0, 2: 10.0}, {1: 10.0, 2: 10.0, 3: 1.0}
    assert one.against(default) == pytest.approx(math.log(2) / 2)
    assert default.against(default) == 0.0
    assert arm("new", 1, []).against(default) is None


@pytest.mark.parametrize(("count", "least", "kept"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (5, 1, 3), (5, 4, 4), (2, 9, 2)])
def test_the_faster_half_goes_on_the_fastest_first(count: int, least: int, kept: int) -> None:
    arms = [arm(str(n), 100 - n, []) for n in range(count)]
    default = arm("default", 50, [])
    run_rounds([*arms, default], BLOCK, 0, 2)
    found = better_half(arms, default, least)
    assert found == arms[::-1][:kept]


def test_one_that_was_not_measured_is_not_in_a_half() -> None:
    default = arm("default", 50, [])
    run_rounds([default], BLOCK, 0, 1)
    assert better_half([arm("new", 1, [])], default) == []
