"""A network loses alike by the rules of all engines, or one of the causes that are known says why not."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime, save, sqnr_db
from random_graphs import STEPS, TAILS, GraphMaker

from edgepack.quantize import plan, quantize
from edgepack.quantize.differences import ALIKE_DB, CAUSES, Side, alike, level
from edgepack.quantize.operator_table import engines, rules_of
from edgepack.quantize.rules import check_rules

if TYPE_CHECKING:
    from edgepack.specs.model import OnnxModel

SIDES = {name: Side(rules_of(name), check_rules(rules_of(name))) for name in engines()}
# TVM's rules are ONNX Runtime's.
COMPARED = ("onnxruntime", "openvino", "tensorrt")


class MoreOperators(GraphMaker):
    """Random graphs with the operators as well that others leave out."""

    def step(self, kind: str) -> None:
        x, shape = self.newest, self.shapes[self.newest]
        _, channels, height, width = shape
        if kind == "deconv":
            self.add("ConvTranspose", [x, self.weight(channels, 6, 2, 2)], (1, 6, height + 1, width + 1))
        elif kind == "split" and channels % 2 == 0:
            half = self.constant(np.array([channels // 2] * 2, np.int64))
            self.add("Split", [x, half], (1, channels // 2, height, width), axis=1)
            self.nodes[-1].output.append(f"{self.newest}_rest")
        elif kind == "layer_norm":
            self.add("LayerNormalization", [x, self.constant(np.ones(width, np.float32))], shape)
        elif kind == "softmax":
            self.add("Softmax", [x], shape, axis=1)
        elif kind == "global":
            self.add("GlobalAveragePool", [x], (1, channels, 1, 1))
            self.add("Mul", [x, self.newest], shape)
        else:
            super().step(kind)


MORE = ("deconv", "split", "layer_norm", "softmax", "global")


@st.composite
def graphs(draw: st.DrawFn) -> GraphMaker:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maker = MoreOperators(random, (1, draw(st.sampled_from([1, 3, 8])), 8, 8))
    maker.conv(draw(st.sampled_from([4, 8, 17])), draw(st.sampled_from([1, 3])))
    for kind in draw(st.lists(st.sampled_from((*STEPS, *MORE, *MORE)), min_size=1, max_size=8)):
        maker.step(kind)
    maker.tail(draw(st.sampled_from(TAILS)))
    return maker


def measuring(model: OnnxModel, folder: str) -> Callable[[Side], float]:
    """Return what gives the SQNR by the rules of a side, with Q/DQ computed as they are written."""
    feeds = random_feeds(model, 32)
    ranges = minmax_ranges(model, feeds)
    exact = run_onnxruntime(model, feeds, optimized=False)

    def measure(side: Side) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "check_rules", lambda _: side.table)
            made = quantize(model, ranges, side.rules, Path(folder) / "int8")
        return sqnr_db(exact, run_onnxruntime(made, feeds, optimized=False))

    return measure


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(graphs())
def test_rules_are_alike_or_a_cause_is_known(maker: GraphMaker) -> None:
    note(f"operators: {[n.op_type for n in maker.nodes]}")
    with tempfile.TemporaryDirectory() as folder:
        measure = measuring(maker.save(Path(folder) / "model.onnx"), folder)
        found = {name: measure(SIDES[name]) for name in COMPARED}
        best = max(COMPARED, key=lambda name: found[name])
        for name in COMPARED:
            if found[name] < found[best] - ALIKE_DB:
                assert measure(level(SIDES[name], SIDES[best])) >= found[best] - ALIKE_DB, (name, best, found)


def model_of(tmp_path: Path, nodes: list[Any], **weights: tuple[int, ...]) -> OnnxModel:
    random = np.random.default_rng(0)
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 4, 8, 8)})


def case(title: str, tmp_path: Path) -> tuple[OnnxModel, str, str]:
    """Return a model in which a cause is at work, the engine that loses by it, and one that does not."""
    from onnx import helper

    def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(operator, inputs.split(), [output], output, **attributes)

    if "Zero points" in title:
        nodes = [node("Conv", "x a", "t"), node("Relu", "t", "u"), node("Conv", "u b", "y")]
        return model_of(tmp_path, nodes, a=(8, 4, 1, 1), b=(4, 8, 1, 1)), "tensorrt", "openvino"
    if "operator is computed" in title:
        nodes = [node("Conv", "x a", "t"), node("Sigmoid", "t", "s"), node("Mul", "t s", "y")]
        return model_of(tmp_path, nodes, a=(8, 4, 1, 1)), "onnxruntime", "openvino"
    nodes = [node("Conv", "x a", "t"), node("Conv", "x b", "u")]
    # Each group of the last convolution reads one part: the small one is as important as the large one.
    nodes += [node("Concat", "u t", "w", axis=1), node("Conv", "w c", "y", group=2)]
    random = np.random.default_rng(0)
    weights = random.standard_normal((4, 4, 1, 1))
    constants = {"a": weights, "b": weights / 50, "c": np.concatenate([50 * weights, weights])}
    rounded = {name: values.astype(np.float32) for name, values in constants.items()}
    return save(nodes, rounded, tmp_path / "m.onnx", inputs={"x": (1, 4, 8, 8)}), "tensorrt", "openvino"


@pytest.mark.parametrize("cause", [CAUSES[0], CAUSES[1], CAUSES[3]], ids=lambda cause: cause.title[:20])
def test_a_cause_costs_what_it_says(cause: Any, tmp_path: Path) -> None:
    model, worse, better = case(cause.title, tmp_path)
    measure = measuring(model, str(tmp_path))
    without = level(SIDES[worse], SIDES[better], (cause,))
    assert without != SIDES[worse]
    assert measure(without) > measure(SIDES[worse]) + ALIKE_DB


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.title[:20])
def test_a_cause_is_something_in_which_engines_differ(cause: Any) -> None:
    groups = alike(cause, SIDES)
    assert len(groups) > 1
    assert sorted(name for group in groups for name in group) == sorted(engines())


def test_levelled_sides_are_those_of_the_other() -> None:
    first, second = SIDES["tensorrt"], SIDES["openvino"]
    found = level(first, second)
    assert found.rules == dataclasses.replace(second.rules, engine="tensorrt", quantize_bias=False)
    assert level(first, second, ()) == first
