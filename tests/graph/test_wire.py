"""The skeleton of a file is the file, but for weights that it points at; whatever is written is read back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import model, relu, small_conv, value
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.graph.save import write_model
from edgepack.graph.wire import INLINE_BYTES, read_skeleton


def written(proto: onnx.ModelProto) -> bytes:
    file = io.BytesIO()
    write_model(proto, file)
    return file.getvalue()


def test_small_model_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(relu().SerializeToString())
    assert read_skeleton(path) == path.read_bytes()


def test_offsets_point_at_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(small_conv().SerializeToString())
    skeleton = onnx.ModelProto.FromString(read_skeleton(path))
    weight = next(t for t in skeleton.graph.initializer if t.name == "conv.weight")
    place = {entry.key: entry.value for entry in weight.external_data}
    start, length = int(place["offset"]), int(place["length"])
    assert place["location"] == "m.onnx"
    original = next(t for t in small_conv().graph.initializer if t.name == "conv.weight")
    assert path.read_bytes()[start : start + length] == original.raw_data
    assert len(read_skeleton(path)) < path.stat().st_size - INLINE_BYTES


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=6),
    names=st.lists(st.text(max_size=200), max_size=4),
    raw=st.booleans(),
)
def test_what_is_written_is_read_back(sizes: list[int], names: list[str], raw: bool) -> None:
    weights = [numpy_helper.from_array(np.arange(size, dtype=np.float32), f"w{i}") for i, size in enumerate(sizes)]
    if not raw:
        weights = [
            helper.make_tensor(t.name, t.data_type, t.dims, numpy_helper.to_array(t).ravel().tolist()) for t in weights
        ]
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    proto.graph.initializer.extend(weights)
    for index, name in enumerate(names):
        proto.metadata_props.add(key=str(index), value=name)
    data = written(proto)
    assert onnx.ModelProto.FromString(data) == proto
    assert written(onnx.ModelProto.FromString(data)) == data


@settings(max_examples=200, deadline=None)
@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_end_as_an_error_or_a_message(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        read_skeleton(path)
    except ModelError as error:
        assert error.message  # noqa: PT017  (most random bytes are refused, some are not)
