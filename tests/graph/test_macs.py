"""Multiply-adds of each operator, by the shapes of its inputs and output."""

from __future__ import annotations

import pytest
from onnx import helper

from edgepack.graph.macs import count_macs


@pytest.mark.parametrize(
    ("operator", "shapes", "out", "attributes", "expected"),
    [
        ("Conv", [(1, 8, 10, 10), (16, 8, 3, 3)], (1, 16, 8, 8), {}, 64 * 16 * 72),
        ("Conv", [(1, 8, 10, 10), (8, 1, 3, 3)], (1, 8, 8, 8), {"group": 8}, 64 * 8 * 9),
        ("ConvTranspose", [(1, 8, 5, 5), (8, 4, 2, 2)], (1, 4, 10, 10), {}, 25 * 8 * 16),
        ("Gemm", [(3, 7), (7, 5)], (3, 5), {}, 105),
        ("Gemm", [(7, 3), (7, 5)], (3, 5), {"transA": 1}, 105),
        ("MatMul", [(2, 4, 6), (6, 5)], (2, 4, 5), {}, 240),
        ("MatMul", [(6,), (6,)], (), {}, 6),
        ("LSTM", [(10, 1, 3), (1, 16, 3), (1, 16, 4)], (10, 1, 1, 4), {}, 10 * (48 + 64)),
        ("Relu", [(1, 2)], (1, 2), {}, None),
    ],
)
def test_multiply_adds(operator: str, shapes: list, out: tuple, attributes: dict, expected: int | None) -> None:
    names = [f"i{n}" for n in range(len(shapes))]
    node = helper.make_node(operator, names, ["o"], **attributes)
    assert count_macs(node, {**dict(zip(names, shapes, strict=True)), "o": out}) == expected


def test_multiply_adds_need_all_shapes() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    assert count_macs(node, {"a": (2, 3), "c": (2, 4)}) is None
    assert count_macs(node, {"a": (2, 3), "b": (3, 4)}) is None
    assert count_macs(node, {"a": (), "b": (3, 4), "c": (2, 4)}) is None
