"""Depthwise convolutions without a copy of their input: nothing inside a picture asks for its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_models import host_machine

from edgepack.engines.tvm.codegen import borders, stack
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.window import Window
from edgepack.engines.tvm.codegen.workload import Choice, Workload
from edgepack.engines.tvm.tuning.timing import function_of, values

FLOAT = ("float32", "float32", "float32")


def workload(height: int, width: int, kernel: int, stride: int, padding: tuple[int, int, int, int]) -> Workload:
    return Workload("depthwise", FLOAT, 2, height, width, 1, 8, (kernel, kernel), (stride, stride), padding, (1, 1), 8)


@pytest.mark.parametrize(
    ("window", "width", "output", "expected"),
    [
        (Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8), 24, 24, [1, 5]),
        (Window((3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 8), 26, 24, [0, 6]),
        (Window((3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 8), 48, 24, [0, 5]),
        (Window((3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 8), 24, 24, [1, 5]),
        (Window((5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 8), 7, 7, [0, 0]),
        (Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8), 23, 23, [1, 5]),  # the last tile is not full
    ],
)
def test_tiles_inside_read_no_column_outside(window: Window, width: int, output: int, expected: list[int]) -> None:
    found = borders.inside(Blocking(1, 4, 1, 8, False), window, width, output)
    assert found == expected
    taps = np.arange(window.kernel[1]) * window.dilation[1] - window.padding[1]
    columns = np.arange(output)[:, None] * window.strides[1] + taps
    whole = [((part >= 0) & (part < width)).all() for part in np.split(columns, range(4, output, 4))]
    assert np.flatnonzero(whole).tolist() == list(range(*found))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "outer"),
    [
        (workload(9, 19, 3, 1, (1, 1, 1, 1)), False),
        (workload(7, 22, 5, 2, (2, 2, 2, 2)), False),
        (workload(6, 12, 3, 1, (0, 0, 0, 0)), True),
        (workload(5, 3, 5, 1, (2, 2, 2, 2)), False),
        (workload(6, 13, 3, 2, (0, 0, 1, 1)), True),
    ],
)
def test_the_sums_are_those_of_a_padded_picture(of: Workload, *, outer: bool) -> None:
    import tvm

    function, shapes = function_of(of, Choice(Blocking(1, min(4, of.width), 1, 8, outer)), host_machine())
    code = tvm.compile(
        tvm.IRModule({"kernel": function}), tvm.target.Target(host_machine().target()), tir_pipeline=stack.pipeline()
    )
    x, weights, bias, _ = (values(shape, dtype) for shape, dtype in shapes)
    x[0, 0, 0, 0] = np.inf
    given = [tvm.runtime.tensor(array) for array in (x, weights, bias, np.zeros(shapes[3][0], np.float32))]
    code["kernel"](*given)
    np.testing.assert_allclose(np.asarray(given[3].numpy()), _plain(x, weights, bias, of), rtol=1e-5, atol=1e-5)


def _plain(x: Any, weights: Any, bias: Any, of: Workload) -> Any:
    top, left, bottom, right = of.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    total = np.zeros((of.batch, of.height, of.width, of.outputs), np.float32)
    for i in range(of.kernel[0]):
        for j in range(of.kernel[1]):
            part = padded[
                :, i : i + of.strides[0] * of.height : of.strides[0], j : j + of.strides[1] * of.width : of.strides[1]
            ]
            total += part[:, : of.height, : of.width] * weights[i, j]
    return np.maximum(total + bias, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "loops"), [(24, 3), (12, 3), (8, 1)])
def test_the_inside_of_a_row_has_a_loop_of_its_own(width: int, loops: int) -> None:
    function, _ = function_of(
        workload(6, width, 3, 1, (1, 1, 1, 1)), Choice(Blocking(1, 4, 1, 8, False)), host_machine()
    )
    assert function.script().count("sums_update") == loops
    assert borders.INSIDE not in function.script()
