"""Structure, names and types of a model, and its inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from graph_models import model, small_conv, value, write
from onnx import TensorProto, helper

from edgepack.errors import ModelError
from edgepack.graph.load import load_model


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.hint
    return caught.value.message


def changed(change: str, tmp_path: Path) -> str:
    """Return why small_conv is refused after ``change``, a statement on its graph ``g`` and model ``m``."""
    m = small_conv()
    exec(change, {"m": m, "g": m.graph, "helper": helper, "value": value})  # the tests' own statements
    return refused(write(m, tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("del g.node[:]", "no nodes"),
        ("del g.input[:]", "no inputs"),
        ("del g.output[:]", "no outputs"),
        ("g.input.append(g.input[0])", "two inputs named 'image'"),
        ("g.output.append(g.output[0])", "two outputs named 'logits'"),
        ("g.initializer.append(g.initializer[0])", "two initializers named 'conv.weight'"),
        ("g.node.append(g.node[1])", "two nodes make the tensor 'r'"),
        ("g.input[0].name = ''", "inputs without a name"),
        ("g.output[0].name = 'nowhere'", "no node makes the output 'nowhere'"),
        ("g.node[1].input[0] = 'nowhere'", "nowhere"),
        ("g.node[0].input[0] = 'r'", "not valid"),  # a cycle
        ("g.initializer[0].raw_data = b'123'", "needs 6912 bytes"),
        ("g.initializer[1].raw_data = b'123'", "needs 256 bytes"),
        ("g.initializer[1].ClearField('raw_data')", "needs 64 values"),
        ("g.initializer[1].ClearField('raw_data'); g.initializer[1].float_data.extend([0] * 63)", "63 are stored"),
        ("g.initializer[0].dims[0] = -1", "negative"),
        ("g.initializer[0].dims[0] = 1 << 40", "needs 118747255799808 bytes"),
        ("g.initializer[0].data_type = 99", "data type"),
        ("g.input[0].type.tensor_type.elem_type = 7", "unsupported type"),
        ("g.input[0].type.tensor_type.elem_type = 99", "not valid"),
        ("g.input[0].type.Clear()", "type"),
        ("g.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1", "unsupported type"),
        ("g.node[1].op_type = 'Reluu'", "unknown operator Reluu in opset 17 (nodes: relu)"),
        ("g.node[1].domain = 'my.domain'", "does not import the domain 'my.domain'"),
        ("g.node[1].domain = 'd'; m.opset_import.add(domain='d', version=1)", "unknown domain 'd'"),
        (
            "g.node[1].domain = 'com.microsoft'; m.opset_import.add(domain='com.microsoft', version=1)",
            "no com.microsoft.Relu",
        ),
        ("g.node[1].op_type = 'Upsample'", "was removed"),
        ("m.opset_import[0].version = 0", "opset version 0"),
        ("m.opset_import.add(domain='ai.onnx', version=17)", "operator set twice"),
        ("del m.opset_import[:]", "does not say which opset"),
        ("m.ir_version = 1000", "IR version 1000"),
        ("m.ClearField('graph')", "no ONNX graph"),
    ],
)  # fmt: skip
def test_bad_structure(change: str, words: str, tmp_path: Path) -> None:
    assert words in changed(change, tmp_path)


def test_output_that_is_no_tensor(tmp_path: Path) -> None:
    made = onnx.helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    proto = model([helper.make_node("SequenceConstruct", ["x"], ["y"], name="s")], [value("x", [1])], [made])
    assert "the output 'y' has the type sequence" in refused(write(proto, tmp_path))


def test_inputs_exclude_initializers(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.input.append(value("conv.weight", [64, 3, 3, 3]))
    assert [spec.name for spec in load_model(write(proto, tmp_path)).inputs] == ["image"]


def test_unknown_shapes(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    loaded = load_model(write(proto, tmp_path))
    assert loaded.inputs[0].shape == ("?", 3, 8, 8)
    assert loaded.outputs[0].shape[1:] == (5,)  # inferred
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert load_model(write(proto, tmp_path)).inputs[0].shape == ("...",)
