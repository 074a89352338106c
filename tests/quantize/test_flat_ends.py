"""Ends of ranges that an activation cannot tell apart are clipped; what can be told apart is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import quantize_models
from onnx import helper, numpy_helper

from edgepack.quantize import quantize
from edgepack.quantize.flat_ends import FlatEnds
from edgepack.quantize.graph.index import index_graph
from edgepack.specs.data import TensorRange
from edgepack.specs.target import QuantizationRules

FUNCTIONS = {
    "elu": "y = Elu(x)",
    "selu": "y = Selu(x)",
    "softplus": "y = Softplus(x)",
    "sigmoid": "y = Sigmoid(x)",
    "tanh": "y = Tanh(x)",
    "hard-swish": "y = HardSwish(x)",
    "hard-swish spelled out": "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)",
    "SiLU": "s = Sigmoid(x) y = Mul(x, s)",
    "GELU": "d = Div(x, root) e = Erf(d) f = Add(e, one) g = Mul(x, f) y = Mul(g, half)",
    "Mish": "p = Softplus(x) t = Tanh(p) y = Mul(x, t)",
}
CONSTANTS = {"zero": 0.0, "half": 0.5, "one": 1.0, "root": np.sqrt(2), "three": 3.0, "six": 6.0}


def graph(body: str, **more: Any) -> Any:
    text = f'<ir_version: 8, opset_import: ["" : 20]> net (float[N,4] x) => (float[N,4] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, value in {**CONSTANTS, **more}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    return proto


def ends(body: str, low: float, high: float, **more: Any) -> tuple[float, float]:
    return FlatEnds(index_graph(graph(body, **more))).told_apart("x", low, high)


def evaluate(body: str, x: Any) -> Any:
    return onnx.reference.ReferenceEvaluator(graph(body)).run(None, {"x": np.float32(x)})[0]


@pytest.mark.parametrize("body", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(("low", "high"), [(-25.0, 5.0), (-12.0, 12.0), (-60.0, 2.0)])
def test_what_is_clipped_changes_less_than_rounding_does(body: str, low: float, high: float) -> None:
    first, last = ends(body, low, high)
    assert low <= first < 0 < last <= high
    assert last - first < 0.9 * (high - low)
    x = np.linspace(low, high, 2001)[:, None].repeat(4, 1)
    changed = np.abs(evaluate(body, x) - evaluate(body, np.clip(x, first, last))).max()
    half_step = (last - first) / 255 / 2
    near_zero = np.abs(evaluate(body, [[half_step, -half_step, 0, 0]]) - evaluate(body, [[0] * 4])).max()
    assert changed <= 0.25 * near_zero  # a fifth of it; the slope is read from a grid


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = LeakyRelu(x)", -20, 5),
        ("y = HardSwish(x)", -2, 3),
        ("y = HardSwish(x)", -20, -10),  # all of it is flat
        ("y = Mul(x, x)", -20, 5),
        ("y = Sigmoid(x)", -9, -8),  # small probabilities are what is told apart here
        ("e = Elu(x) y = Add(x, e)", -20, 5),
        ("y = Mul(x, half)", -20, 5),
    ],
)
def test_what_can_be_told_apart_stays(body: str, low: float, high: float) -> None:
    assert ends(body, low, high) == (low, high)


def test_who_else_reads_a_tensor_sees_all_of_it() -> None:
    assert ends("y = HardSwish(x)", -20, 5)[0] > -3.2
    product = "h = HardSwish(x) m = MatMul(x, k) y = Add(h, m)"
    assert ends(product, -20, 5, k=np.ones((4, 4))) == (-20, 5)
    assert ends("h = HardSwish(x) n = Mul(x, half) y = Add(h, n)", -20, 5) == (-20, 5)
    proto = graph("y = HardSwish(x)")
    proto.graph.output.append(helper.make_tensor_value_info("x", 1, None))
    assert FlatEnds(index_graph(proto)).told_apart("x", -20, 5) == (-20, 5)


def test_a_scale_for_each_channel_in_front() -> None:
    """The channel with the smallest factor reaches least far, and has its own end."""
    body = "m = Mul(x, k) y = HardSwish(m)"
    assert ends(body, -20, 5, k=[1, 2, 0.5, 4])[0] == pytest.approx(-6, abs=0.4)
    assert ends(body, -20, 5, k=[1, 2, 0.1, 4]) == (-20, 5)
    assert ends(body, -20, 5, k=[1, 2, -0.5, 4]) == (-20, 5)


def test_ranges_keep_what_was_seen() -> None:
    flat = FlatEnds(index_graph(graph("y = HardSwish(x)")))
    found = flat.narrow("x", TensorRange(-30, 6, -20, 5, 20, "mse"))
    assert (found.minimum, found.maximum, found.high, found.chosen) == (-30, 6, 5, "mse")
    assert -3.2 < found.low <= -3
    assert found.magnitude == 5


def test_steps_are_spent_where_they_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution in front of ELU, whose results lie mostly far below 0, by ONNX Runtime's rules."""
    drawn = np.random.default_rng(0)
    constants = {
        "w": drawn.normal(0, 1, (8, 4, 1, 1)), "b": np.linspace(-120, 0, 8), "v": drawn.normal(0, 1, (4, 8, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first"),
        helper.make_node("Elu", ["c"], ["e"], "elu"),
        helper.make_node("Conv", ["e", "v"], ["y"], "second"),
    ]
    weights = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    model = quantize_models.save(nodes, weights, tmp_path / "m.onnx", inputs={"x": (1, 4, 9, 9)})
    feeds = quantize_models.random_feeds(model, 4)
    ranges = quantize_models.minmax_ranges(model, feeds)
    exact = quantize_models.run_onnxruntime(model, feeds)

    def level(name: str) -> float:
        made = quantize(model, ranges, QuantizationRules(), tmp_path / name)
        return quantize_models.sqnr_db(exact, quantize_models.run_onnxruntime(made, feeds, optimized=False))

    narrow = level("narrow")
    monkeypatch.setattr(FlatEnds, "narrow", lambda _self, _tensor, found: found)
    assert narrow > level("whole") + 6
