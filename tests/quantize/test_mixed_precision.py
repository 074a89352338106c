from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from edgepack.quantize.mixed_precision import (
    Candidate,
    best_found,
    choose,
    pareto_front,
    put_back_order,
    search,
    single_layers,
)
from edgepack.specs.build import Trial

ALL = tuple(f"conv{i}" for i in range(40))


def trial(left: tuple[str, ...], drop: float, **more: object) -> Trial:
    return Trial(left, "top1", 0.9 - drop, drop, 20.0, len(left) / len(ALL), **more)  # type: ignore[arg-type]


@given(st.integers(1, 39), st.integers(2, 40))
def test_the_smallest_prefix_that_passes_is_found_in_few_trials(needed: int, layers: int) -> None:
    order = tuple(ALL[: count + 1] for count in range(layers))
    asked = []

    def evaluate(left: tuple[str, ...]) -> Trial:
        asked.append(left)
        return trial(left, 0.0 if len(left) >= needed else 0.1)

    trials = search(order, trial((), 0.1), lambda t: t.drop <= 0.01, evaluate, budget=100)
    found = choose(trials, lambda t: t.drop <= 0.01)
    if needed <= layers:
        assert found is not None
        assert found.left == order[needed - 1]
    else:
        assert found is None
        assert best_found(trials).drop == 0.1
    assert len(asked) <= 2 * math.log2(layers) + 2
    assert len(set(asked)) == len(asked)


def test_the_budget_bounds_the_trials() -> None:
    trials = search(
        tuple((name,) for name in ALL), trial((), 0.1), lambda _: False, lambda left: trial(left, 0.1), budget=3
    )
    assert len(trials) == 4


def test_noisy_and_cheap_layers_go_first() -> None:
    layers = (Candidate(("big",), 0.5, 1000), Candidate(("small",), 0.5, 10), Candidate(("quiet",), 0.01, 10))
    assert put_back_order(layers, ("big", "small", "quiet")) == (("small",), ("small", "big"))


def test_a_group_goes_before_its_layers_where_they_bring_nothing_alone() -> None:
    group = Candidate(("stem", "relu", "depthwise"), 0.4, 20)
    layers = (Candidate(("stem",), 0.01, 10), Candidate(("depthwise",), 0.0, 10), Candidate(("last",), 0.1, 10))
    order = put_back_order((*layers, group), ("stem", "depthwise", "last"))
    assert order == (group.nodes,)  # with the last layer nothing would be left in int8


def test_what_is_back_already_does_not_count_twice() -> None:
    pair, other = Candidate(("a", "b"), 0.4, 20), Candidate(("b", "c"), 0.3, 20)
    layers = tuple(Candidate((name,), 0.01, 10) for name in "abcd")
    assert put_back_order((*layers, pair, other), tuple("abcd")) == (("a", "b"), ("a", "b", "c"))


@given(st.lists(st.tuples(st.sets(st.sampled_from(ALL[:6]), min_size=1), st.floats(-1, 1)), max_size=12))
def test_every_step_puts_more_back_and_never_all(parts: list[tuple[set[str], float]]) -> None:
    groups = [Candidate(tuple(sorted(names)), noise, 10 * len(names)) for names, noise in parts]
    order = put_back_order(groups, ALL[:6])
    assert all(set(before) < set(after) for before, after in itertools.pairwise(order))
    assert all(not set(left) >= set(ALL[:6]) for left in order)


def test_the_front_holds_what_nothing_beats() -> None:
    slow_good, fast_bad, beaten = trial(("a", "b"), 0.0), trial((), 0.1), trial(("a", "b", "c"), 0.05)
    assert pareto_front((slow_good, beaten, fast_bad)) == (fast_bad, slow_good)


def test_measured_latency_decides_where_all_have_it() -> None:
    first, second = trial(("a", "b"), 0.0, p50_ns=10), trial((), 0.1, p50_ns=20)
    assert pareto_front((first, second)) == (first,)


def test_a_layer_of_unknown_size_counts_as_the_mean() -> None:
    assert single_layers({"a": 0.1, "b": 0.2}, {"a": 100})[1] == Candidate(("b",), 0.2, 100)
