"""Activations are found however they are spelled, and nothing else is taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantize_models import node, save

from edgepack.graph.load import read_proto
from edgepack.quantize.graph.activations import Activation, find_activations
from edgepack.quantize.graph.index import index_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONSTANTS = {
    "zero": np.float32(0), "three": np.float32(3), "six": np.float32(6), "sixth": np.float32(1 / 6),
    "half": np.float32(0.5), "one": np.float32(1), "root": np.float32(np.sqrt(2)),
    "by_channel": np.ones((1, 4, 1, 1), np.float32),
}  # fmt: skip


def found(nodes: Sequence[Any], tmp_path: Path) -> tuple[Activation, ...]:
    constants = {name: np.asarray(value) for name, value in CONSTANTS.items()}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 4, 8, 8)})
    return find_activations(index_graph(read_proto(model)))


SPELLINGS = {
    "SiLU": [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")],
    "hard-swish, Clip": [
        node("Add", "x three", "a"), node("Clip", "a zero six", "c"), node("Mul", "x c", "m"),
        node("Div", "m six", "y"),
    ],
    "hard-swish, HardSigmoid": [node("HardSigmoid", "x", "s", alpha=1 / 6), node("Mul", "s x", "y")],
    "hard-swish, one node": [node("HardSwish", "x", "y")],
    "GELU": [
        node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"), node("Mul", "x a", "m"),
        node("Mul", "m half", "y"),
    ],
    "Mish": [node("Softplus", "x", "p"), node("Tanh", "p", "t"), node("Mul", "x t", "y")],
    "ELU": [node("Elu", "x", "y")],
    "ReLU6": [node("Clip", "x zero six", "y")],
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_one_function_however_it_is_spelled(name: str, tmp_path: Path) -> None:
    nodes = SPELLINGS[name]
    assert found(nodes, tmp_path) == (Activation("x", "y", frozenset(range(len(nodes)))),)


def test_what_scales_pass_is_no_obstacle(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Mul", "r sixth", "m"), node("LeakyRelu", "m", "y")]
    assert found(nodes, tmp_path) == ()


def test_a_gate_computed_from_neighbours_is_not_of_one_element(tmp_path: Path) -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Sigmoid", "p", "s"), node("Mul", "x s", "y")]
    assert [activation.source for activation in found(nodes, tmp_path)] == ["p"]


def test_a_constant_by_channel_is_no_part_of_it(tmp_path: Path) -> None:
    nodes = [node("Mul", "x by_channel", "m"), node("Sigmoid", "m", "y")]
    assert found(nodes, tmp_path) == (Activation("m", "y", frozenset({1})),)


def test_each_result_that_leaves_is_told(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "x s", "y"), node("GlobalAveragePool", "s", "p")]
    assert [activation.result for activation in found(nodes, tmp_path)] == ["s", "y"]
