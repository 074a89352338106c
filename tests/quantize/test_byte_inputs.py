"""Byte tensors get a step of exactly 1/256 and the zero point 0, whatever the samples held."""

from __future__ import annotations

from onnx import helper

from edgepack.quantize.byte_inputs import BYTE_STEP, BYTES_KEY, byte_tensors, with_bytes
from edgepack.quantize.scales import activation_scale
from edgepack.specs.data import Ranges, TensorRange
from edgepack.specs.target import QuantizationRules


def test_named_tensors_get_the_range_of_a_byte() -> None:
    proto = helper.make_model(helper.make_graph([], "g", [], []))
    proto.metadata_props.add(key=BYTES_KEY, value="x\nnot there")
    assert list(byte_tensors(proto)) == ["x", "not there"]
    seen = TensorRange(0.1, 0.7, 0.1, 0.7, 0.7)
    ranges = Ranges("", "", "minmax", None, 1, {"x": seen, "y": seen})
    found = with_bytes(ranges, proto)
    assert found.tensors.keys() == {"x", "y"}
    assert found.tensors["y"] == seen
    scale = activation_scale(found.tensors["x"], QuantizationRules())
    assert (scale.scale, scale.zero_point, scale.dtype) == (BYTE_STEP, 0, "uint8")


def test_other_models_keep_their_ranges() -> None:
    ranges = Ranges("", "", "minmax", None, 1, {})
    assert with_bytes(ranges, helper.make_model(helper.make_graph([], "g", [], []))) is ranges
