"""The float model of a quantized one: near the model that was quantized, and with what its types clipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from imported_models import (
    FORMATS,
    TYPES,
    by_onnxruntime,
    dynamic,
    float_network,
    operators,
    pictures,
    run,
    sqnr_db,
    with_clips,
)
from onnx import TensorProto, numpy_helper

from edgepack.errors import ConfigError, ModelError
from edgepack.graph import passes
from edgepack.graph.load import load_model, read_proto, save_proto
from edgepack.quantize.imported.floats import NOTE, take_float


def taken(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return what ``take_float`` makes of a model, checked."""
    folder.mkdir(exist_ok=True, parents=True)
    made = take_float(save_proto(proto, folder), folder / "float")
    return read_proto(load_model(made.path))


def integer_operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node if passes.marks_quantized(node)]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("types", TYPES)
def test_it_is_near_the_model_that_was_quantized(form: str, types: str, tmp_path: Path) -> None:
    quantized = by_onnxruntime(tmp_path / "q", form, types)
    made = taken(quantized, tmp_path / "taken")
    assert integer_operators(made) == []
    assert operators(made).count("Relu") >= 2  # the quantizer had left them out
    feeds = {"x": pictures()}
    (original,), (before,), (after,) = (run(m, feeds) for m in (float_network(), quantized, made))
    assert sqnr_db(original, after) > 38  # rounded weights alone
    assert sqnr_db(original, after) > sqnr_db(original, before) + 3


def test_of_one_that_is_quantized_while_it_runs(tmp_path: Path) -> None:
    made = taken(dynamic(tmp_path / "q"), tmp_path / "taken")
    assert integer_operators(made) == []
    assert {"Cast", "DynamicQuantizeLinear"}.isdisjoint(operators(made))
    feeds = {"x": pictures()}
    assert sqnr_db(run(float_network(), feeds)[0], run(made, feeds)[0]) > 38


def test_of_one_with_clips_in_its_pairs(tmp_path: Path) -> None:
    quantized = with_clips(by_onnxruntime(tmp_path / "q", "QDQ", "s8s8", ActivationSymmetric=True), -127, 127)
    made = taken(quantized, tmp_path / "taken")
    assert integer_operators(made) == []
    feeds = {"x": pictures()}
    assert sqnr_db(run(float_network(), feeds)[0], run(made, feeds)[0]) > 38


def test_what_was_done_is_in_its_metadata(tmp_path: Path) -> None:
    made = taken(by_onnxruntime(tmp_path / "q", "QDQ", "u8s8"), tmp_path / "taken")
    (note,) = (entry.value for entry in made.metadata_props if entry.key == NOTE)
    assert "pairs taken out" in note
    assert "activations clipped as by its type" in note


def test_inputs_and_outputs_in_integers_become_float(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> g (int8[2,4] x) => (int8[2,4] y) {
        d = DequantizeLinear(x, s, z)
        t = Tanh(d)
        y = QuantizeLinear(t, s, z) }""")
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in (("s", np.float32(0.1)), ("z", np.int8(3)))
    )
    made = taken(proto, tmp_path)
    assert [v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)] == [TensorProto.FLOAT] * 2
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(run(made, {"x": x})[0], np.tanh(x), rtol=1e-6)


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not quantized"):
        taken(float_network(), tmp_path)


def test_an_operator_without_a_known_float_form_is_named(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> g (uint8[2,4] x) => (int32[2,3] y) {
        y = MatMulInteger(x, w) }""")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3), np.int8), "w"))
    with pytest.raises(ModelError, match="MatMulInteger"):
        taken(proto, tmp_path)
