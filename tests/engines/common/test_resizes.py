"""Which Resizes an engine without the filter computes otherwise; test_misread.py and TVM's test_resizes.py run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgepack.engines.common.resizes import shrinks_with_antialias

CASES: tuple[tuple[str, list[float], tuple[int | str, ...], bool], ...] = (
    ("scales", [1, 1, 2, 1.3], (1, 2, 6, 7), False),
    ("scales", [1, 1, 2, 0.9], (1, 2, 6, 7), True),
    ("sizes", [1, 2, 6, 7], (1, 2, 6, 7), False),
    ("sizes", [1, 2, 9, 6], (1, 2, 6, 7), True),
    ("sizes", [1, 2, 9, 9], ("N", 2, 6, 7), False),
    ("sizes", [1, 2, 9, 9], ("N", 2, "H", 7), True),
    ("sizes", [1, 2, 9, 9], (1, 2, 6, 0), True),
    ("sizes", [1, 2, 9, 9], (), True),
    ("computed", [], (1, 2, 6, 7), True),
)


@pytest.mark.parametrize(("kind", "values", "shape", "shrinks"), CASES)
def test_what_may_get_smaller(kind: str, values: list[float], shape: tuple[int | str, ...], shrinks: bool) -> None:
    inputs = ["x", "", "v"] if kind == "scales" else ["x", "", "", "v"]
    array = np.array(values, np.float32 if kind == "scales" else np.int64)
    constants: dict[str, Any] = {} if kind == "computed" else {"v": numpy_helper.from_array(array, "v")}
    for antialias in (0, 1):
        node = helper.make_node("Resize", inputs, ["y"], mode="linear", antialias=antialias)
        assert shrinks_with_antialias(node, constants, {"x": shape}) == (shrinks and antialias == 1)


def test_axes_that_are_named() -> None:
    constants = {"v": numpy_helper.from_array(np.array([9, 6]), "v")}
    node = helper.make_node("Resize", ["x", "", "", "v"], ["y"], mode="linear", antialias=1, axes=[-1, 2])
    assert not shrinks_with_antialias(node, constants, {"x": (1, 2, 6, 7)})
    assert shrinks_with_antialias(node, constants, {"x": (1, 2, 8, 7)})
