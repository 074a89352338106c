"""What is taken of an operator only in part."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import one_operator
from onnx import TensorProto, helper
from violations import FLOAT, lstm, make, resize

from edgepack.engines.tensorrt.check import check_model

if TYPE_CHECKING:
    from edgepack.specs.model import Diagnostic
    from edgepack.specs.target import Target


Save = Any


def errors(found: list[Diagnostic]) -> list[Diagnostic]:
    return [d for d in found if d.severity == "error"]


def test_an_lstm_in_the_other_layout_is_refused(save: Save, jetson: Target) -> None:
    assert "layout = 1" in errors(check_model(save(lstm(1)), jetson))[0].message


def test_a_cubic_resize_is_a_warning(save: Save, jetson: Target) -> None:
    found = check_model(save(resize(mode="cubic")), jetson)
    assert [d.severity for d in found] == ["warning"]


def test_a_scale_for_each_channel_of_an_activation_is_refused(save: Save, jetson: Target) -> None:
    weights = {"s": np.full(3, 0.1, np.float32), "z": np.zeros(3, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize", axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantize", axis=1),
    ]
    found = errors(check_model(save(make(nodes, weights)), jetson))
    assert [d.node for d in found] == ["quantize"]


def test_a_violation_inside_a_branch_is_found(save: Save, jetson: Target) -> None:
    def branch(name: str, operator: str) -> Any:
        node = helper.make_node(operator, ["x"], [name], f"inner_{operator}")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, [2, 2])])

    branches = {"then_branch": branch("a", "Relu"), "else_branch": branch("b", "Hardmax")}
    node = helper.make_node("If", ["c"], ["y"], "if", **branches)
    inputs = [("x", FLOAT, (2, 2)), ("c", TensorProto.BOOL, ())]
    older = dataclasses.replace(jetson, engine=dataclasses.replace(jetson.engine, version="8.6"))
    found = errors(check_model(save(make([node], inputs=inputs, outputs=[("y", FLOAT, (2, 2))])), older))
    assert [d.node for d in found] == ["inner_Hardmax"]


def test_what_is_disputed_between_document_and_proxy_is_judged_by_the_document(save: Any, jetson: Target) -> None:
    for case, judged in one_operator.disputed():
        found = check_model(save(case.proto), jetson)
        assert any(d.severity == "error" for d in found) is judged, case.name
        if not judged:
            (warning,) = found
            assert (warning.severity, "tensorrt-rtx 1.7.1 refuses it" in warning.message) == ("warning", True)
