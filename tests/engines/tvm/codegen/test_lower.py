"""Every rule gives what ONNX Runtime gives, over shapes, strides, padding, dilation and groups."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from codegen_models import assert_close, feeds, host_machine, import_model, model, run_ours, run_reference
from onnx import helper

from edgepack.engines.tvm.codegen import schedules
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.steps import RuleError

pytestmark = pytest.mark.slow


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rules(lowered: Any) -> set[str]:
    return {rule.split(":")[0] for rule in lowered.rules.values()}


@pytest.mark.parametrize(
    ("shape", "weights", "attributes", "rule"),
    [
        ([1, 8, 9, 7], (16, 8, 3, 3), {"pads": [1, 1, 1, 1]}, "window"),
        ([2, 3, 11, 13], (24, 3, 5, 3), {"strides": [2, 1], "pads": [2, 0, 1, 1]}, "window"),
        ([1, 8, 9, 9], (12, 8, 3, 3), {"dilations": [2, 2]}, "window"),
        ([1, 5, 6, 6], (7, 5, 3, 3), {}, "window"),
        ([1, 8, 10, 10], (16, 4, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}, "window"),
        ([2, 16, 7, 5], (40, 16, 1, 1), {}, "flat"),
        ([1, 13, 5, 5], (9, 13, 1, 1), {}, "flat"),
        ([1, 16, 8, 8], (32, 16, 1, 1), {"strides": [2, 2]}, "window"),
        ([1, 24, 9, 10], (24, 1, 3, 3), {"group": 24, "pads": [1, 1, 1, 1]}, "depthwise"),
        ([2, 16, 12, 11], (16, 1, 5, 5), {"group": 16, "strides": [2, 2], "pads": [2, 2, 2, 2]}, "depthwise"),
    ],
)  # fmt: skip
def test_convolution_with_what_is_fused_behind_it(
    shape: list[int], weights: tuple[int, ...], attributes: dict[str, Any], rule: str
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], **attributes),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    proto = model(nodes, {"x": shape}, {"w": normal(*weights), "b": normal(weights[0], seed=2)}, ("y",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))
    assert rule in rules(lowered)
    assert "default" not in rules(lowered)


@pytest.mark.parametrize(
    ("left", "right", "rule"),
    [([5, 33], (33, 20), "flat"), ([1, 64], (64, 10), "flat"), ([2, 7, 16], (16, 48), "flat")],
)
def test_product_with_weights(left: list[int], right: tuple[int, int], rule: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    proto = model(nodes, {"x": left}, {"w": normal(*right), "b": normal(right[1], seed=2)}, ("y",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))
    assert rules(lowered) == {rule}


@pytest.mark.parametrize(("left", "right"), [([2, 3, 7, 9], [2, 3, 9, 12]), ([4, 16, 8], [4, 8, 16])])
def test_product_of_activations(left: list[int], right: list[int]) -> None:
    proto = model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": left, "b": right}, {}, ("y",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))
    assert rules(lowered) == {"batched"}


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize(
    ("shape", "weights", "attributes", "rule"),
    [
        ([1, 8, 19, 17], (16, 8, 3, 3), {"pads": [1, 1, 1, 1]}, "window"),
        ([1, 16, 27, 25], (40, 16, 1, 1), {}, "flat"),
        ([1, 24, 29, 30], (24, 1, 3, 3), {"group": 24, "pads": [1, 1, 1, 1]}, "depthwise"),
    ],
)
def test_the_rules_hold_for_several_threads(
    shape: list[int],
    weights: tuple[int, ...],
    attributes: dict[str, Any],
    rule: str,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgepack.engines.tvm.codegen.threads.LAUNCH_CYCLES", 0)  # these are too small to be divided
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], **attributes), helper.make_node("Relu", ["c"], ["y"])]
    proto = model(nodes, {"x": shape}, {"w": normal(*weights), "b": normal(weights[0], seed=2)}, ("y",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs, host_machine(threads))
    assert_close(ours, run_reference(proto, inputs))
    assert rule in rules(lowered)
    assert "default" not in rules(lowered)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_pictures_are_joined_along_each_axis(axis: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=axis),
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[3], keepdims=1),
        helper.make_node("Add", ["c", "m"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 8, 5, 9]}, {"w": normal(16, 8, 3, 3)}, ("y",))
    inputs = feeds(proto)
    ours, _ = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))


def test_what_keeps_the_engines_own_loops_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuleError("no loops like these")

    monkeypatch.setattr(schedules, "schedule", refuse)
    caplog.set_level(logging.INFO, "edgepack")
    lowered = lower(
        import_model(model([helper.make_node("Exp", ["x"], ["y"])], {"x": [4, 8]}, {}, ("y",))), host_machine(), "fp32"
    )
    assert set(lowered.rules.values()) == {"default: no loops like these"}
    assert [record.getMessage() for record in caplog.records] == [
        f"TVM's own loops stay in the function {name}: no loops like these" for name in lowered.rules
    ]


_VALUES = (
    "Exp",
    "Log",
    "Sin",
    "Cos",
    "Tan",
    "Tanh",
    "Sinh",
    "Cosh",
    "Erf",
    "Sigmoid",
    "Elu",
    "Selu",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Abs",
)
_ROWS = ("ReduceLogSumExp", "ReduceSum", "ReduceMax", "ReduceMean", "ReduceL2", "ReduceProd", "Softmax", "LogSoftmax")


@pytest.mark.parametrize("operator", [*_VALUES, *_ROWS])
def test_no_rule_falls_back(operator: str) -> None:
    """Reductions are over all axes, as they are where no axes are given."""
    proto = model([helper.make_node(operator, ["x"], ["y"])], {"x": [2, 3, 40, 33]}, {}, ("y",))
    lowered = lower(import_model(proto), host_machine(), "fp32")
    assert lowered.rules
    assert "default" not in rules(lowered)
