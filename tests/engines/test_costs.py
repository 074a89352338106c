"""The linear law of what a node costs."""

from __future__ import annotations

from edgepack.engines.costs import Cost, PrecisionCosts


def test_a_cost_is_linear_in_elements_and_multiply_adds() -> None:
    cost = Cost(1000, made_ns=0.5, read_ns=0.25, mac_ns=0.125)
    assert cost.of(0, 0, 0) == 1000
    assert cost.of(8, 16, 32) == 1000 + 4 + 4 + 4
    assert Cost().of(8, 16, 32) == 0


def test_other_costs_of_int8_leave_float_and_conversions_as_they_are() -> None:
    cost = Cost(1000, made_ns=0.5, read_ns=0.25, mac_ns=0.125)
    costs = PrecisionCosts({"Add": cost}, {"Add": cost}, cost, cost, cost, cost, frozenset())
    half = Cost(500, made_ns=0.25, read_ns=0.125, mac_ns=0.0625)
    assert costs.with_int8_at(0.5) == PrecisionCosts({"Add": half}, {"Add": cost}, cost, cost, cost, cost, frozenset())
