"""Einsums that are matrix products become MatMuls with the same numbers; others stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from dialects import Builder, cleaned, count
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = dict(zip("abcdefgh", (2, 3, 4, 5, 3, 2, 4, 3), strict=True))


def network(seed: int, equation: str, *, weights: bool) -> tuple[Builder, tuple[int, ...]]:
    """Return an Einsum of a picture and weights, or of it and an activation, and the picture's sizes."""
    first, _, rest = equation.partition(",")
    sizes = tuple(SIZES[letter] for letter in first)
    built = Builder(seed, ("N", *sizes[1:]))
    other = built.normal(*(SIZES[letter] for letter in rest.partition("->")[0]))
    if not weights:
        other = built.add("Relu", first=other)
    built.add("Einsum", other, first="x", swap=False, equation=equation)
    return built, sizes


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 2)] * 4), st.booleans())
def test_a_random_einsum_computes_the_same(seed: int, counts: tuple[int, int, int, int], weights: bool) -> None:
    letters = iter("abcdefgh")
    shared, rows, summed, columns = ("".join(next(letters) for _ in range(number)) for number in counts)
    random = np.random.default_rng(seed)
    parts = (shared + rows + summed, shared + summed + columns, shared + rows + columns)
    first, second, result = ("".join(random.permutation(list(part))) for part in parts)
    if not first:
        return
    built, sizes = network(seed, f"{first},{second}->{result}", weights=weights)
    proto, _ = cleaned(built, sizes)
    layer = weights and bool(summed) and bool(columns) and not shared
    product = all(len(part) == 1 for part in (summed, rows, columns))
    assert count(proto, "Einsum") == (0 if layer or product else 1)
    assert count(proto, "MatMul") == (1 if layer or product else 0)


@pytest.mark.parametrize(
    ("equation", "weights", "left"),
    [
        ("abc,cde->abde", True, ["MatMul", "Reshape"]),  # a projection to heads, as Keras and Flax write it
        ("abcd,cde->abe", True, ["MatMul", "Reshape"]),  # and back
        ("abcd,aecd->acbe", False, ["MatMul", "Transpose", "Transpose"]),  # queries and keys
        ("acbe,aecd->abcd", False, ["MatMul", "Transpose", "Transpose"]),  # scores and values
        ("abc,dc", True, ["MatMul"]),  # the result's letters follow from the others
        ("...bac,...dac->...abd", False, ["MatMul", "Transpose", "Transpose"]),  # as Flax writes queries and keys
    ],
)
def test_the_products_of_an_attention_have_no_more_nodes_than_they_need(
    equation: str, weights: bool, left: list[str]
) -> None:
    built, sizes = network(0, equation.replace("...", "e"), weights=weights)
    built.nodes[-1].attribute[0].s = equation.encode()
    proto, counts = cleaned(built, sizes)
    assert sorted(n.op_type for n in proto.graph.node if n.op_type != "Relu") == left
    assert counts["Einsums as products"] == 1


@pytest.mark.parametrize("equation", ["abb,bc->ac", "abc,c->ab", "abc,bc->a", "ab,cd->abcd"])
def test_one_that_is_no_product_stays(equation: str) -> None:
    built, sizes = network(0, equation, weights=True)
    proto, _ = cleaned(built, sizes)
    assert count(proto, "Einsum") == 1


def test_an_axis_of_one_that_is_repeated_stays() -> None:
    built = Builder(0, ("N", 1))
    built.add("Einsum", built.normal(4, 3), equation="ab,bc->ac")
    proto = built.model()
    from edgepack.graph.clean import clean

    clean(proto)
    assert count(proto, "Einsum") == 1
