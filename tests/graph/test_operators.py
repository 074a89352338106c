"""Unknown operators are found wherever they are; known ones of onnx and ONNX Runtime are not complained about."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from graph_models import model, relu, small_conv, value, write
from mutations import with_control_flow
from onnx import helper

from edgepack.graph import operators
from edgepack.graph.load import load_model
from edgepack.graph.operators import find_unknown, highest_runtime_opset


def test_known_models() -> None:
    assert find_unknown(small_conv()) == ()
    assert find_unknown(with_control_flow()) == ()  # it calls a function of its own


def test_operator_of_a_newer_opset() -> None:
    found = find_unknown(
        model([helper.make_node("Gelu", ["x"], ["y"], name="g")], [value("x", [1])], [value("y", [1])])
    )
    assert [(d.severity, d.node, d.message) for d in found] == [("error", "g", "unknown operator Gelu in opset 17")]


def test_unnamed_node_is_called_by_its_output() -> None:
    found = find_unknown(model([helper.make_node("Nope", ["x"], ["y"])], [value("x", [1])], [value("y", [1])]))
    assert found[0].node == "y"


def test_what_tf2onnx_left_as_it_was_is_named_as_that() -> None:
    node = helper.make_node("TFL_Convolution2DTransposeBias", ["x"], ["y"])
    (found,) = find_unknown(model([node], [value("x", [1])], [value("y", [1])]))
    assert str(found.hint).startswith("tf2onnx does not convert Convolution2DTransposeBias of TensorFlow Lite")


def test_function_of_the_model_is_looked_into() -> None:
    proto = with_control_flow()
    proto.functions[0].node[0].op_type = "Nope"
    assert [d.message for d in find_unknown(proto)] == ["unknown operator Nope in opset 17"]


def test_contributed_operators(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], [value("x", [1])], [value("y", [1])]
    )
    proto.opset_import.add(domain="com.microsoft", version=1)
    assert find_unknown(proto) == ()
    assert load_model(write(proto, tmp_path)).outputs[0].name == "y"


def test_highest_opset_of_onnxruntime_is_found_by_loading() -> None:
    newest = onnx.defs.onnx_opset_version()
    highest = highest_runtime_opset(newest)
    assert highest is not None
    onnxruntime.InferenceSession(relu(highest).SerializeToString(), providers=["CPUExecutionProvider"])
    if highest < newest:
        with pytest.raises(Exception, match=r"(?i)opset"):
            onnxruntime.InferenceSession(relu(highest + 1).SerializeToString(), providers=["CPUExecutionProvider"])


def test_old_opsets_are_not_probed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def probe(_opset: int) -> bool:
        raise AssertionError

    monkeypatch.setattr(operators, "_runtime_loads", probe)
    load_model(write(relu(opset=21), tmp_path))
