"""What is worth computing in int8: the cheapest choice is found, and means what it says in a real model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import Recorded
from onnx import helper
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime, save, sqnr_db

from edgepack.device.host import host_facts
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.graph.load import load_model
from edgepack.quantize import quantize
from edgepack.quantize.plan import make_plan
from edgepack.quantize.worthwhile import Choices, choices_of, find_worthwhile, least_cost
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

RULES = QuantizationRules(engine="onnxruntime")


# --- choices ----------------------------------------------------------------------------------------------------------

COUNT = 5
COSTS = st.integers(0, 30)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Choices, list[tuple[Any, Any, int]]]:
    """Return choices among five things, and all that is paid, as (first, second, cost)."""
    paid: list[tuple[Any, Any, int]] = []
    for thing in range(COUNT):
        paid += [(thing, "float", draw(COSTS)), ("int8", thing, draw(COSTS))]
    pairs = draw(st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1), COSTS), max_size=8))
    paid += [pair for pair in pairs if pair[0] != pair[1]]
    made = Choices()
    for first, second, cost in paid:
        made.pay_between(first, second, cost * 100)
    return made, paid


def cost_of(paid: list[tuple[Any, Any, int]], chosen: set[int]) -> int:
    int8 = {"int8", *chosen}
    return 100 * sum(cost for first, second, cost in paid if first in int8 and second not in int8)


@given(choices())
def test_the_cheapest_of_all_choices_is_found(drawn: tuple[Choices, list[tuple[Any, Any, int]]]) -> None:
    made, paid = drawn
    every = [set(some) for size in range(COUNT + 1) for some in itertools.combinations(range(COUNT), size)]
    assert cost_of(paid, set(made.cheapest())) == min(cost_of(paid, some) for some in every)


@given(choices(), st.sets(st.integers(0, COUNT - 1)))
def test_the_cost_of_a_choice_is_what_is_paid(
    drawn: tuple[Choices, list[tuple[Any, Any, int]]], chosen: set[int]
) -> None:
    made, paid = drawn
    assert made.cost(frozenset(chosen)) == cost_of(paid, chosen)


def test_a_conversion_is_paid_once_for_all_that_read() -> None:
    made = Choices()
    for reader in (1, 2, 3):
        made.pay_as_float(reader, 1000)
        made.bind(reader, "converted")
    made.pay_between("converted", "float", 2500)
    assert made.cheapest() == {1, 2, 3}
    assert made.cost(frozenset({1, 2, 3})) == 2500
    assert made.cost(frozenset({1})) == 2500 + 2000


# --- models -----------------------------------------------------------------------------------------------------------


def network(out: Path, channels: int, side: int, *, silu: bool = True, batch: int | str = 1) -> OnnxModel:
    """Return pointwise and depthwise convolutions in turn, each with SiLU or Relu behind it."""
    random = np.random.default_rng(3)
    nodes, constants, tensor = [], {}, "x"
    for number, (name, shape, group) in enumerate(
        [("p", (channels, channels, 1, 1), 1), ("d", (channels, 1, 3, 3), channels)] * 2
    ):
        layer = f"{name}{number}"
        constants[f"w_{layer}"] = (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        pads = [shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [tensor, f"w_{layer}"], [layer], layer, group=group, pads=pads))
        tensor = f"{layer}_y"
        if silu:
            nodes.append(helper.make_node("Sigmoid", [layer], [f"{layer}_s"], f"{layer}_sigmoid"))
            nodes.append(helper.make_node("Mul", [layer, f"{layer}_s"], [tensor], f"{layer}_mul"))
        else:
            nodes.append(helper.make_node("Relu", [layer], [tensor], f"{layer}_relu"))
    nodes[-1].output[0] = "y"
    save(nodes, constants, out, inputs={"x": [batch, channels, side, side]})
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(out)), out)
    return load_model(out)


def test_few_channels_stay_in_float_and_many_are_worth_it(tmp_path: Path) -> None:
    small, large = network(tmp_path / "s.onnx", 8, 32), network(tmp_path / "l.onnx", 512, 16, silu=False)
    for model, left in ((small, True), (large, False)):
        ranges = minmax_ranges(model, random_feeds(model, 1))
        found = find_worthwhile(model, ranges, RULES, tmp_path / "out")
        assert found is not None
        assert ("p0" in found.left) is left
        assert found.least_ns <= min(found.whole_ns, found.float_ns)


def sounds(out: Path, channels: int) -> OnnxModel:
    """Return a network as for keywords: a first layer, depthwise and pointwise ones in turn, a product of one row."""
    random = np.random.default_rng(3)
    shapes = {"first": (channels, 1, 10, 4)}
    for number in range(4):
        shapes |= {f"d{number}": (channels, 1, 3, 3), f"p{number}": (channels, channels, 1, 1)}
    constants = {f"w_{n}": random.standard_normal(s) / np.sqrt(np.prod(s[1:])) for n, s in shapes.items()}
    constants["w_last"] = random.standard_normal((channels, 12))
    nodes, tensor = [], "x"
    for name, shape in shapes.items():
        layout = {"pads": [4, 1, 5, 1], "strides": [2, 2]} if name == "first" else {"pads": [shape[2] // 2] * 4}
        layout |= {"group": channels} if name.startswith("d") else {}
        nodes.append(helper.make_node("Conv", [tensor, f"w_{name}"], [name], name, **layout))
        nodes.append(helper.make_node("Relu", [name], [f"{name}_y"], f"{name}_relu"))
        tensor = f"{name}_y"
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], "flat"))
    nodes.append(helper.make_node("Gemm", ["flat", "w_last"], ["y"], "last"))
    floats = {name: values.astype(np.float32) for name, values in constants.items()}
    return save(nodes, floats, out, inputs={"x": [1, 1, 49, 10]})


@pytest.mark.parametrize(("channels", "left"), [(16, "all"), (64, "ends"), (256, "few")])
def test_a_small_network_keeps_its_ends_in_float_and_a_tiny_one_everything(
    channels: int, left: str, tmp_path: Path
) -> None:
    model = sounds(tmp_path / "m.onnx", channels)
    found = find_worthwhile(model, minmax_ranges(model, random_feeds(model, 1)), RULES, tmp_path / "out")
    assert found is not None
    depthwise_and_pointwise = {f"{kind}{number}" for kind in "dp" for number in range(4)}
    assert ({"first", "last"} <= set(found.left)) is (left != "few")
    assert (depthwise_and_pointwise <= set(found.left)) is (left == "all")
    assert len(depthwise_and_pointwise & set(found.left)) <= (8 if left == "all" else 1)


def test_what_is_left_runs_in_float_and_the_rest_in_int8(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", 256, 16)
    feeds = random_feeds(model, 2)
    ranges = minmax_ranges(model, feeds)
    found = find_worthwhile(model, ranges, RULES, tmp_path / "out")
    assert found is not None
    rules = QuantizationRules(engine="onnxruntime", leave=found.left)
    made = quantize(model, ranges, rules, tmp_path / "q")
    names = {node.name for node in make_plan(model, ranges, RULES).index.nodes}
    assert set(found.left) < names
    layers = {layer.name for layer in make_plan(model, ranges, rules).placement.layers}
    assert layers
    assert not layers & set(found.left)
    assert sqnr_db(run_onnxruntime(model, feeds), run_onnxruntime(made, feeds)) > 20


def test_the_estimate_of_a_choice_is_that_of_the_placement_it_makes(tmp_path: Path) -> None:
    """Placed by the choice and asked again, everything that is int8 is worth it."""
    model = network(tmp_path / "m.onnx", 256, 16)
    ranges = minmax_ranges(model, random_feeds(model, 1))
    plan = make_plan(model, ranges, RULES)
    assert plan.table.costs is not None
    first = least_cost(plan, plan.table.costs)
    again = make_plan(model, ranges, QuantizationRules(engine="onnxruntime", leave=first.left))
    second = least_cost(again, plan.table.costs)
    assert second.left == ()
    assert second.whole_ns == second.least_ns


def test_what_is_paid_is_what_the_costs_say(tmp_path: Path) -> None:
    """Pointwise, SiLU, depthwise, SiLU, twice: of all choices of the first four nodes, three counted by hand."""
    model = network(tmp_path / "m.onnx", 16, 64)
    plan = make_plan(model, minmax_ranges(model, random_feeds(model, 1)), RULES)
    costs, size = plan.table.costs, 16 * 64 * 64
    assert costs is not None
    choices = choices_of(plan, costs)
    number = {node.name: n for n, node in enumerate(plan.index.nodes)}
    macs = {"pointwise": size * 16, "depthwise": size * 9}
    floats = 2 * sum(costs.float32[kind].of(size, size, macs[kind]) for kind in macs)
    floats += 3 * costs.float32["SiLU"].of(size, size, size)  # the last one is float anyway: nobody takes its int8
    assert choices.cost(frozenset()) == pytest.approx(floats, abs=2000)

    change = costs.int8["pointwise"].of(size, size, macs["pointwise"])
    change -= costs.float32["pointwise"].of(size, size, macs["pointwise"])
    to_int8, to_float, layout = (cost.of(size, 0, 0) for cost in (costs.to_int8, costs.to_float, costs.layout))
    # Sigmoid and Mul read it in float, each by a conversion of its own.
    alone = floats + change + to_int8 + 2 * (to_float + layout)
    assert choices.cost(frozenset({number["p0"]})) == pytest.approx(alone, abs=2000)

    silu = sum(costs.int8[kind].of(size, size, size) for kind in ("Sigmoid", "Mul"))
    silu -= costs.float32["SiLU"].of(size, size, size)
    together = floats + change + silu + to_int8 + to_float + layout
    chosen = frozenset(number[name] for name in ("p0", "p0_sigmoid", "p0_mul"))
    assert choices.cost(chosen) == pytest.approx(together, abs=2000)


def test_silu_in_float_is_one_node(tmp_path: Path) -> None:
    """Two operators cost what one does: with SiLU less is worth computing in int8 than with Relu."""
    counts = []
    for silu in (True, False):
        model = network(tmp_path / f"{silu}.onnx", 96, 16, silu=silu)
        found = find_worthwhile(model, minmax_ranges(model, random_feeds(model, 1)), RULES, tmp_path / "out")
        assert found is not None
        counts.append(found.float_ns - found.whole_ns)
    assert counts[0] < counts[1]


@pytest.mark.parametrize(("engine", "known"), [("onnxruntime", True), ("openvino", True), ("tvm", False)])
def test_only_engines_with_known_costs_have_a_choice(tmp_path: Path, engine: str, known: bool) -> None:
    model = network(tmp_path / "m.onnx", 64, 8)
    ranges = minmax_ranges(model, random_feeds(model, 1))
    assert (find_worthwhile(model, ranges, QuantizationRules(engine=engine), tmp_path) is not None) is known


def test_a_free_batch_counts_as_one_and_unknown_sides_have_no_choice(tmp_path: Path) -> None:
    fixed, free = network(tmp_path / "a.onnx", 64, 8), network(tmp_path / "b.onnx", 64, 8, batch="N")
    ranges = [minmax_ranges(model, random_feeds(model, 1)) for model in (fixed, free)]
    first, second = (find_worthwhile(m, r, RULES, tmp_path) for m, r in zip((fixed, free), ranges, strict=True))
    assert first == second
    proto = onnx.load(free.path)
    del proto.graph.value_info[:]
    onnx.save(proto, tmp_path / "c.onnx")
    bare = load_model(tmp_path / "c.onnx")
    assert find_worthwhile(bare, minmax_ranges(bare, random_feeds(bare, 1)), RULES, tmp_path) is None


def test_that_there_is_no_choice_is_kept_like_a_choice(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", 64, 8)
    ranges = minmax_ranges(model, random_feeds(model, 1))
    runner = StageRunner(Store(tmp_path / "store"), tmp_path / "logs", Recorded(), 60.0, host_facts())
    unknown = QuantizationRules(engine="tvm")
    assert [runner.run(find_worthwhile, model, ranges, unknown) for _ in range(2)] == [None, None]
    assert runner.store.reused == ["worthwhile"]
