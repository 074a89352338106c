from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edgepack.quantize.mixed_precision import (
    LayerCost,
    best_found,
    choose,
    layer_costs,
    pareto_front,
    put_back_order,
    search,
)
from edgepack.specs.build import Trial

ALL = tuple(f"conv{i}" for i in range(40))


def trial(left: tuple[str, ...], drop: float, **more: object) -> Trial:
    return Trial(left, "top1", 0.9 - drop, drop, 20.0, len(left) / len(ALL), **more)  # type: ignore[arg-type]


@given(st.integers(1, 39), st.integers(2, 40))
def test_the_smallest_prefix_that_passes_is_found_in_few_trials(needed: int, layers: int) -> None:
    order = ALL[:layers]
    asked = []

    def evaluate(left: tuple[str, ...]) -> Trial:
        asked.append(left)
        return trial(left, 0.0 if len(left) >= needed else 0.1)

    trials = search(order, trial((), 0.1), lambda t: t.drop <= 0.01, evaluate, budget=100)
    found = choose(trials, lambda t: t.drop <= 0.01)
    if needed < layers:
        assert found is not None
        assert found.left == order[:needed]
    else:
        assert found is None
        assert best_found(trials).drop == 0.1
    assert len(asked) <= 2 * math.log2(layers) + 2
    assert len(set(asked)) == len(asked)
    assert all(len(left) < layers for left in asked)


def test_the_budget_bounds_the_trials() -> None:
    trials = search(ALL, trial((), 0.1), lambda _: False, lambda left: trial(left, 0.1), budget=3)
    assert len(trials) == 4


def test_noisy_and_cheap_layers_go_first() -> None:
    layers = (LayerCost("big", 0.5, 1000), LayerCost("small", 0.5, 10), LayerCost("quiet", 0.01, 10))
    assert put_back_order(layers) == ("small", "big", "quiet")


def test_the_front_holds_what_nothing_beats() -> None:
    slow_good, fast_bad, beaten = trial(("a", "b"), 0.0), trial((), 0.1), trial(("a", "b", "c"), 0.05)
    assert pareto_front((slow_good, beaten, fast_bad)) == (fast_bad, slow_good)


def test_measured_latency_decides_where_all_have_it() -> None:
    first, second = trial(("a", "b"), 0.0, p50_ns=10), trial((), 0.1, p50_ns=20)
    assert pareto_front((first, second)) == (first,)


def test_a_layer_of_unknown_size_counts_as_the_mean() -> None:
    assert layer_costs({"a": 0.1, "b": 0.2}, {"a": 100})[1] == LayerCost("b", 0.2, 100)
