"""GELU by tanh is joined however it is spelled, and nothing that only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from joined import compiled_operators, is_left_alone, model_of
from quantize_models import node

from edgepack.engines.onnxruntime.tanh_gelu import join_tanh_gelu

if TYPE_CHECKING:
    from pathlib import Path


CONSTANTS = {"half": 0.5, "one": 1.0, "three": 3.0, "cubic": 0.044715, "root": (2 / np.pi) ** 0.5, "other": 0.05}
INNER = [node("Add", "x q", "s"), node("Mul", "s root", "t"), node("Tanh", "t", "u"), node("Add", "u one", "v")]
CUBE = [node("Pow", "x three", "p"), node("Mul", "p cubic", "q")]
HALVED = [node("Mul", "x half", "h"), node("Mul", "h v", "y")]
SPELLINGS = {
    "gelu_new": [*CUBE, *INNER, *HALVED],
    "halved last": [*CUBE, *INNER, node("Mul", "x v", "w"), node("Mul", "w half", "y")],
    "two in a row": [*CUBE, *INNER, node("Mul", "x half", "h"), node("Mul", "h v", "g"),
                     node("Pow", "g three", "p2"), node("Mul", "p2 cubic", "q2"), node("Add", "g q2", "s2"),
                     node("Mul", "s2 root", "t2"), node("Tanh", "t2", "u2"), node("Add", "u2 one", "v2"),
                     node("Mul", "g half", "h2"), node("Mul", "h2 v2", "y")],
}  # fmt: skip
OTHERS = {
    "another factor": [CUBE[0], node("Mul", "p other", "q"), *INNER, *HALVED],
    "read elsewhere too": [*CUBE, *INNER, node("Mul", "x half", "h"), node("Mul", "h v", "g"), node("Add", "g v", "y")],
    "without the half": [*CUBE, *INNER, node("Mul", "x v", "y")],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_becomes_one_node_that_computes_the_same(name: str, tmp_path: Path) -> None:
    found = compiled_operators(model_of(SPELLINGS[name], CONSTANTS, tmp_path), tmp_path, atol=2e-6)
    assert found == ["FastGelu"] * (2 if name == "two in a row" else 1)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_stays_as_it_is(name: str, tmp_path: Path) -> None:
    assert is_left_alone(model_of(OTHERS[name], CONSTANTS, tmp_path), join_tanh_gelu)
