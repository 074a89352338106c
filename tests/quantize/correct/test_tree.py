"""Steps are kept by what they bring in the end, on made-up levels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from edgepack.quantize.correct.tree import LEAST_GAIN_DB, Step, Tree

ROWS = (("scale",), ("round",), ("bias", "gain"))


class Levels:
    """A tree whose states are the steps taken, with a level for each."""

    def __init__(self, levels: Mapping[tuple[str, ...], float], branches: int = 1, *, outlook: bool = False) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.tree: Tree[tuple[str, ...]] = Tree((), lambda state: levels.get(state, 0.0), self.judge, branches=branches)
        for row in ROWS:
            ahead = {"bias": self.step("bias")} if outlook and row is not ROWS[-1] else {}
            self.tree.grow({name: self.step(name) for name in row}, ahead)

    def judge(self, state: tuple[str, ...]) -> tuple[str, ...]:
        self.asked.append(state)
        return state

    def step(self, name: str) -> Step[tuple[str, ...]]:
        return lambda state: (*state, name)


def test_a_step_that_helps_at_once_is_kept_and_one_that_does_not_is_not() -> None:
    found = Levels({("scale",): 1.0, ("scale", "round"): 0.5, ("scale", "bias"): 0.9, ("scale", "gain"): 2.0})
    assert found.tree.best() == ("scale", "gain")
    kept = {tried.name: (tried.level, tried.kept) for tried in found.tree.tried()}
    assert kept == {"scale": (1.0, True), "round": (0.5, False), "bias": (0.9, False), "gain": (2.0, True)}


def test_less_than_other_samples_would_change_is_no_gain() -> None:
    assert Levels({("scale",): LEAST_GAIN_DB / 2}).tree.best() == ()


def test_a_step_that_only_helps_with_the_next_is_kept_with_an_outlook() -> None:
    levels = {("scale",): -1.0, ("bias",): 1.0, ("scale", "bias"): 5.0}
    assert Levels(levels).tree.best() == ("bias",)
    found = Levels(levels, outlook=True)
    assert found.tree.best() == ("scale", "bias")
    assert found.asked.count(("scale", "bias")) == 1  # what was made for the outlook is not made again


def test_several_branches_find_what_no_outlook_sees() -> None:
    levels = {("scale",): 1.0, ("round",): -1.0, ("round", "gain"): 9.0}
    assert Levels(levels, outlook=True).tree.best() == ("scale",)
    assert Levels(levels, branches=4).tree.best() == ("round", "gain")


def test_a_failing_step_has_its_reason_and_one_without_work_none() -> None:
    def fail(_state: tuple[str, ...]) -> tuple[str, ...]:
        raise ValueError("does not converge\nat all")

    tree: Tree[tuple[str, ...]] = Tree((), lambda _: 0.0, lambda state: state, branches=1)
    tree.grow({"fails": fail, "nothing": lambda _: None}, {})
    assert [(t.name, t.level, t.kept, t.reason) for t in tree.tried()] == [
        ("fails", None, False, "does not converge"),
        ("nothing", None, False, None),
    ]


STATES = [
    tuple(name for name in (*head, last) if name)
    for head, last in itertools.product([(), ("scale",), ("round",), ("scale", "round")], ["", "bias", "gain"])
]


@given(st.fixed_dictionaries({steps: st.integers(-20, 20).map(float) for steps in STATES if steps}))
def test_with_enough_branches_the_best_way_is_found(levels: dict[tuple[str, ...], float]) -> None:
    levels[()] = 0.0
    best = Levels(levels, branches=4).tree.best()
    assert levels[best] == max(levels.values())
    shorter = [steps for steps in levels if levels[steps] == levels[best] and len(steps) < len(best)]
    assert not shorter


@given(st.fixed_dictionaries({steps: st.integers(-20, 20).map(float) for steps in STATES if steps}), st.booleans())
def test_the_end_is_never_worse_than_the_beginning(levels: dict[tuple[str, ...], float], outlook: bool) -> None:
    found = Levels(levels, outlook=outlook)
    assert levels.get(found.tree.best(), 0.0) >= 0.0
    assert {tried.name for tried in found.tree.tried()} == {"scale", "round", "bias", "gain"}
