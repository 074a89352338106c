"""Hard-swish is joined however it is spelled, and nothing that only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from joined import compiled_operators, is_left_alone, model_of
from quantize_models import node

from edgepack.engines.onnxruntime.hard_swish import join_hard_swish
from edgepack.graph.load import read_proto

if TYPE_CHECKING:
    from pathlib import Path


CONSTANTS = {"zero": 0.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "seven": 7.0}
START = [node("Add", "x three", "a"), node("Clip", "a zero six", "c")]
SPELLINGS = {
    "divided last": [*START, node("Mul", "x c", "m"), node("Div", "m six", "y")],
    "times a sixth": [*START, node("Mul", "c x", "m"), node("Mul", "sixth m", "y")],
    "divided first": [*START, node("Div", "c six", "d"), node("Mul", "d x", "y")],
    "added the other way": [node("Add", "three x", "a"), START[1], node("Mul", "x c", "m"), node("Div", "m six", "y")],
}
OTHERS = {
    "another bound": [START[0], node("Clip", "a zero seven", "c"), node("Mul", "x c", "m"), node("Div", "m six", "y")],
    "another offset": [node("Add", "x six", "a"), START[1], node("Mul", "x c", "m"), node("Div", "m six", "y")],
    "another divisor": [*START, node("Mul", "x c", "m"), node("Div", "m seven", "y")],
    "of another tensor": [*START, node("Relu", "x", "r"), node("Mul", "r c", "m"), node("Div", "m six", "y")],
    "not divided": [*START, node("Mul", "x c", "y")],
    "read elsewhere too": [
        *START, node("Mul", "x c", "m"), node("Div", "m six", "d"), node("Add", "d c", "y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_becomes_two_nodes_that_compute_the_same(name: str, tmp_path: Path) -> None:
    found = compiled_operators(model_of(SPELLINGS[name], CONSTANTS, tmp_path), tmp_path, atol=1e-6)
    assert found == ["HardSigmoid", "Mul"]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_stays_as_it_is(name: str, tmp_path: Path) -> None:
    assert is_left_alone(model_of(OTHERS[name], CONSTANTS, tmp_path), join_hard_swish)


def test_several_in_a_row(tmp_path: Path) -> None:
    second = [
        node("Add", "u three", "a2"), node("Clip", "a2 zero six", "c2"), node("Mul", "u c2", "m2"),
        node("Div", "m2 six", "y"),
    ]  # fmt: skip
    proto = read_proto(
        model_of([*START, node("Mul", "x c", "m"), node("Div", "m six", "u"), *second], CONSTANTS, tmp_path)
    )
    assert join_hard_swish(proto) == 2
    assert [n.op_type for n in proto.graph.node] == ["HardSigmoid", "Mul", "HardSigmoid", "Mul"]
