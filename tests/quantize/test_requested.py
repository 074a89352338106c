"""The precision that Q/DQ ask of each node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgepack.engines.common.requested import LEFT_KEY
from edgepack.quantize.requested import asked_of_onnx


@pytest.fixture
def asked(make_model: Any) -> Any:
    def ask(body: str) -> dict[str, str]:
        model = make_model(
            f'<ir_version: 8, opset_import: ["" : 17]> net (float[1,4] x, float[1,4] v) => (float[1,4] y) {{ {body} }}',
            s=np.asarray(0.5, np.float32), z=np.asarray(3, np.uint8), zi=np.asarray(0, np.int8),
            w=np.ones((4, 4), np.int8), wf=np.ones((4, 4), np.float32), four=np.array([1, 4]),
            k=np.ones(4, np.float32),
        )  # fmt: skip
        return {layer.makes[0]: layer.layer.asked for layer in asked_of_onnx(model)}

    return ask


def pair(name: str) -> str:
    return f"{name}q = QuantizeLinear({name}, s, z) {name}d = DequantizeLinear({name}q, s, z)\n"


WEIGHT = "wd = DequantizeLinear(w, s, zi)\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (pair("x") + WEIGHT + "y = MatMul(xd, wd)", "int8"),
        (WEIGHT + "y = MatMul(x, wd)", "fp32"),
        (pair("x") + "y = MatMul(xd, wf)", "fp32"),  # a layer left in float behind an int8 one
        (pair("x") + "y = Mul(xd, k)", "int8"),  # what is added or multiplied may be a float constant
        (pair("x") + pair("v") + "y = Add(xd, vd)", "int8"),
        (pair("x") + "y = Add(xd, v)", "fp32"),
        (pair("x") + "y = Reshape(xd, four)", "int8"),
        ("y = Reshape(x, four)", "fp32"),
        ("y = Relu(x)", "fp32"),
    ],
)
def test_int8_is_asked_where_every_activation_was_dequantized(asked: Any, body: str, expected: str) -> None:
    assert asked(body)["y"] == expected


def test_what_only_converts_is_no_layer(asked: Any) -> None:
    assert list(asked(pair("x") + WEIGHT + "c = Constant<value_float = 1.0>() p = MatMul(xd, wd) y = Mul(p, c)")) == [
        "p",
        "y",
    ]


def test_the_reason_stands_with_the_layer(make_model: Any) -> None:
    model = make_model('<ir_version: 8, opset_import: ["" : 17]> net (float[4] x) => (float[4] y) { y = Relu(x) }')
    proto = onnx.load(model.path)
    proto.graph.node[0].name = "last"
    proto.metadata_props.add(key=LEFT_KEY, value='{"last": "no range"}')
    onnx.save(proto, model.path)
    (found,) = asked_of_onnx(model)
    assert (found.layer.name, found.layer.reason, found.layer.executed) == ("last", "no range", "unknown")
    assert (found.reads, found.makes) == (("x",), ("y",))
