"""A message written in pieces is the message, and large weights go to a file of their own."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import external_model, small_conv
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.save import move_weights, weight_bytes, without_initializers, without_weights, write_model


def written(proto: onnx.ModelProto) -> bytes:
    file = io.BytesIO()
    write_model(proto, file)
    return file.getvalue()


@given(sizes=st.lists(st.integers(0, 40), max_size=4), producer=st.text(max_size=20))
@settings(deadline=None)
def test_pieces_are_read_as_the_whole(sizes: list[int], producer: str) -> None:
    proto = small_conv()
    proto.producer_name = producer
    proto.metadata_props.add(key="k", value="v")
    for n, size in enumerate(sizes):
        proto.graph.initializer.append(numpy_helper.from_array(np.arange(size, dtype=np.float32), f"extra{n}"))
    data = written(proto)
    assert onnx.load_model_from_string(data) == proto
    assert data == written(proto)


def test_a_graph_without_weights_is_written_too() -> None:
    proto = without_initializers(small_conv())
    assert onnx.load_model_from_string(written(proto)) == proto


def test_all_but_the_initializers_is_copied() -> None:
    proto = small_conv()
    proto.doc_string = "doc"
    light = without_initializers(proto)
    assert not light.graph.initializer
    assert (light.graph.node, light.graph.input, light.ir_version) == (
        proto.graph.node,
        proto.graph.input,
        proto.ir_version,
    )
    light.graph.node[0].name = "changed"
    assert proto.graph.node[0].name == "conv"
    light.graph.initializer.extend(proto.graph.initializer)
    light.graph.node[0].name = "conv"
    assert light == proto


def test_large_weights_become_inputs_and_small_ones_stay() -> None:
    light = without_weights(small_conv())
    assert "conv.weight" in {value.name for value in light.graph.input}
    assert "conv.bias" in {tensor.name for tensor in light.graph.initializer}
    onnx.checker.check_model(light)
    shape = next(v for v in light.graph.input if v.name == "conv.weight").type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [64, 3, 3, 3]


def test_an_external_weight_is_an_input_once() -> None:
    proto = external_model("w.data")
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    assert [value.name for value in without_weights(proto).graph.input] == ["x", "w"]


def test_moved_weights_are_aligned_and_read_back(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.initializer.append(helper.make_tensor("typed", TensorProto.INT64, [2048], list(range(2048))))
    proto.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]))
    with (tmp_path / "m.data").open("wb") as file:
        moved = move_weights(proto, "m.data", file)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in moved.graph.initializer if t.external_data}
    assert "conv.weight" in places
    assert "conv.bias" not in places
    assert all(int(place["offset"]) % 4096 == 0 for place in places.values())
    onnx.save(moved, tmp_path / "m.onnx")
    loaded = onnx.load(tmp_path / "m.onnx")
    for before, after in zip(proto.graph.initializer, loaded.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(after), numpy_helper.to_array(before))


@pytest.mark.parametrize(
    ("tensor", "count"),
    [(numpy_helper.from_array(np.zeros((3, 5), np.float16), "h"), 30), (helper.make_tensor("s", 8, [1], [b"text"]), 0)],
)
def test_the_bytes_of_weights_do_not_count_words(tensor: onnx.TensorProto, count: int) -> None:
    proto = onnx.ModelProto()
    proto.graph.initializer.append(tensor)
    assert weight_bytes(proto) == count
