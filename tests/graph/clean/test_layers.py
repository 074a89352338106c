"""Products of rows, biases behind a split and transposes of flattened stacks in one form, with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from dialects import Builder, cleaned, count

SHAPE, SIZES = ("N", 6, 8), (2, 6, 8)


def operators(built: Builder, sizes: tuple[int, ...] = SIZES) -> list[str]:
    return [node.op_type for node in cleaned(built, sizes)[0].graph.node]


def shape(built: Builder, *sizes: int) -> str:
    return built.constant(np.array(sizes, np.int64))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_rows_are_multiplied_as_they_come(transposed: bool, split: bool) -> None:
    built = Builder(0, SHAPE)
    built.add("Reshape", shape(built, -1, 8))
    weight = built.normal(*((12, 8) if transposed else (8, 12)))
    built.add("Gemm", weight, built.normal(12), transB=int(transposed))
    built.add("Reshape", shape(built, -1, 6, *((3, 4) if split else (12,))))
    built.add("Relu")
    assert operators(built) == ["MatMul", "Add", *(["Reshape"] if split else []), "Relu"]


def test_one_product_of_rows_keeps_those_of_others() -> None:
    built = Builder(0, SHAPE)
    rows = built.add("Reshape", shape(built, -1, 8))
    made = []
    for _ in range(2):
        built.add("MatMul", built.normal(8, 8), first=rows)
        made.append(built.add("Reshape", shape(built, -1, 6, 8)))
    built.add("Add", made[0], first=made[1])
    assert sorted(operators(built)) == ["Add", "MatMul", "MatMul"]


def test_heads_are_put_together_before_their_rows_are_multiplied() -> None:
    built = Builder(0, ("N", 6, 2, 4))
    built.add("Relu")
    built.add("Reshape", shape(built, -1, 8))
    built.add("Gemm", built.normal(8, 5), built.normal(5))
    built.add("Reshape", shape(built, -1, 6, 5))
    built.add("Relu")
    assert operators(built, (2, 6, 2, 4)) == ["Relu", "Reshape", "MatMul", "Add", "Relu"]


@pytest.mark.parametrize("case", ["alpha", "other rows", "two readers", "matrix behind"])
def test_a_product_of_another_kind_stays(case: str) -> None:
    built = Builder(0, SHAPE)
    width = 4 if case == "other rows" else 8
    built.add("Reshape", shape(built, -1, width))
    built.add("Gemm", built.normal(width, 12), built.normal(12), alpha=2.0 if case == "alpha" else 1.0)
    product = built.last
    if case == "other rows":
        built.add("Reshape", shape(built, -1, 12, 12))
        built.add("Reshape", shape(built, -1, 3, 4, 4))
    elif case != "matrix behind":
        built.add("Reshape", shape(built, -1, 6, 12))
    if case == "two readers":
        built.add("Reshape", shape(built, -1, 6, 12), first=built.add("Relu", first=product))
    built.add("Relu")
    if case == "other rows":  # its rows are others than those of the tensor, which any result may have
        cleaned(built, SIZES)
    else:
        assert "Gemm" in operators(built)


def test_a_bias_goes_in_front_of_the_split() -> None:
    built = Builder(0, SHAPE)
    built.add("MatMul", built.normal(8, 12))
    built.add("Reshape", shape(built, -1, 6, 3, 4))
    built.add("Add", built.normal(3, 4))
    built.add("Relu")
    assert operators(built) == ["MatMul", "Add", "Reshape", "Relu"]


@pytest.mark.parametrize("bias", [(4,), (6, 3, 4), (1, 3, 1)])
def test_a_bias_of_other_axes_stays_behind(bias: tuple[int, ...]) -> None:
    built = Builder(0, SHAPE)
    built.add("MatMul", built.normal(8, 12))
    built.add("Reshape", shape(built, -1, 6, 3, 4))
    built.add("Add", built.normal(*bias))
    assert operators(built) == ["MatMul", "Reshape", "Add"]


def test_a_stack_is_transposed_on_all_its_axes() -> None:
    built = Builder(0, ("N", 3, 4, 5))
    built.add("Relu")
    built.add("Reshape", shape(built, -1, 4, 5))
    built.add("Transpose", perm=[0, 2, 1])
    built.add("Reshape", shape(built, -1, 3, 5, 4))
    built.add("Sin")
    proto, _ = cleaned(built, (2, 3, 4, 5))
    assert count(proto, "Reshape") == 0


@pytest.mark.parametrize("back", [(-1, 6, 5, 2), (-1, 2, 3, 5, 4), (3, -1, 5, 4)])
def test_one_that_is_split_otherwise_stays(back: tuple[int, ...]) -> None:
    built = Builder(0, ("N", 3, 4, 5))
    built.add("Relu")
    built.add("Reshape", shape(built, -1, 4, 5))
    built.add("Transpose", perm=[0, 2, 1])
    built.add("Reshape", shape(built, *back))
    built.add("Sin")
    assert count(cleaned(built, (2, 3, 4, 5))[0], "Reshape") == 2
