"""Numbers that scale an attention, wherever an exporter writes them, end in the weights of the queries."""

from __future__ import annotations

import numpy as np
import pytest
from dialects import Builder, cleaned, count

HEADS, LENGTH, WIDTH = 2, 6, 8
SHAPE, SIZES = ("N", LENGTH, WIDTH), (2, LENGTH, WIDTH)


def attention(where: str, scale: float = 0.5) -> Builder:
    """Return an attention with its scale on the queries, the scores, or by the root on queries and keys."""
    built = Builder(1, SHAPE)
    heads = []
    for name in ("query", "key", "value"):
        built.add("MatMul", built.normal(WIDTH, WIDTH), first="x")
        built.add("Add", built.normal(WIDTH))
        built.add("Reshape", built.constant(np.array([-1, LENGTH, HEADS, WIDTH // HEADS])))
        if where == "behind the split" and name == "query":
            built.add("Div", built.constant(np.float32(1 / scale)))
        heads.append(built.add("Transpose", perm=[0, 2, 3, 1] if name == "key" else [0, 2, 1, 3]))
        if where == "roots" and name != "value":
            heads[-1] = built.add("Mul", built.constant(np.float32(scale**0.5)))
        if where == "queries" and name == "query":
            heads[-1] = built.add("Mul", built.constant(np.array([scale], np.float32)), swap=True)
    built.add("MatMul", heads[1], first=heads[0])
    if where in ("scores", "scores divided"):
        divides = where == "scores divided"
        built.add("Div" if divides else "Mul", built.constant(np.float32(1 / scale if divides else scale)))
    built.add("Softmax", axis=-1)
    built.add("MatMul", heads[2])
    return built


@pytest.mark.parametrize("where", ["queries", "behind the split", "scores", "scores divided", "roots"])
def test_the_scale_is_in_the_weights(where: str) -> None:
    proto, _ = cleaned(attention(where), SIZES)
    assert count(proto, "Mul", "Div") == 0
    plain, _ = cleaned(attention("nowhere"), SIZES)
    assert [n.op_type for n in proto.graph.node] == [n.op_type for n in plain.graph.node]


def test_weights_that_another_layer_reads_are_copied() -> None:
    built = Builder(0, SHAPE)
    weight = built.normal(WIDTH, WIDTH)
    first = built.add("MatMul", weight, first="x")
    built.add("Mul", built.constant(np.float32(3.0)), first=built.add("MatMul", weight, first="x"))
    built.add("Sub", first)
    proto, counts = cleaned(built, SIZES)
    assert counts["scales folded into layers"] == 1
    assert count(proto, "Mul") == 0


@pytest.mark.parametrize("case", ["read twice", "one a channel", "no layer", "divided by it"])
def test_another_one_stays(case: str) -> None:
    built = Builder(0, SHAPE)
    layer = built.add("Relu" if case == "no layer" else "MatMul", *([] if case == "no layer" else [built.normal(8, 8)]))
    number = built.positive(8) if case == "one a channel" else built.constant(np.float32(3.0))
    made = built.add("Div" if case == "divided by it" else "Mul", number, swap=case == "divided by it")
    if case == "read twice":
        built.add("Add", layer, first=made)
    proto, counts = cleaned(built, SIZES)
    assert counts["scales folded into layers"] == 0
    assert count(proto, "Mul", "Div") == 1
