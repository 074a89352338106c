"""Copies of ONNX models with large weights in a file of their own, aligned so that they can be mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import external_model, small_conv, write
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines.common import weights as module
from edgepack.engines.common.weights import copy_model, read_message
from edgepack.graph.load import load_model
from edgepack.specs.model import OnnxModel


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is separated above 64 MiB is separated above 3 KiB here."""
    monkeypatch.setattr(module, "SEPARATE_ABOVE_BYTES", 3 << 10)
    monkeypatch.setattr(module, "_SMALL_BYTES", 1 << 10)


def external(folder: Path) -> OnnxModel:
    """A product whose 64 bytes of weights begin at byte 16 of another file."""
    folder.mkdir(parents=True)
    (folder / "w.bin").write_bytes(bytes(16) + np.arange(16, dtype=np.float32).tobytes())
    return load_model(write(external_model("w.bin", 16, 64), folder))


def loaded(folder: Path, name: str = "model.onnx") -> dict[str, np.ndarray]:
    proto = onnx.load(folder / name)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_a_small_model_is_copied_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEPARATE_ABOVE_BYTES", 64 << 20)
    model = load_model(write(small_conv(), tmp_path / "in"))
    (tmp_path / "out").mkdir()
    assert copy_model(model, tmp_path / "out") == ("model.onnx",)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == model.path.read_bytes()


def test_large_weights_lie_page_aligned_beside_it(tmp_path: Path) -> None:
    model = load_model(write(small_conv(), tmp_path / "in"))
    (tmp_path / "out").mkdir()
    assert copy_model(model, tmp_path / "out", "n.onnx") == ("n.onnx", "n.onnx.data")
    proto = onnx.load(tmp_path / "out" / "n.onnx", load_external_data=False)
    moved = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer if t.external_data}
    assert set(moved) == {"conv.weight", "fc.weight"}
    assert all(int(place["offset"]) % 16384 == 0 for place in moved.values())
    expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}
    for name, values in loaded(tmp_path / "out", "n.onnx").items():
        np.testing.assert_array_equal(values, expected[name])


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = load_model(write(small_conv(), tmp_path / "in"))
    bytes_of = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        bytes_of.append([(folder / name).read_bytes() for name in copy_model(model, folder)])
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize("limit", [10, 64 << 20])
def test_external_weights_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Into the copy's own file, or, where they are few, into the model."""
    monkeypatch.setattr(module, "SEPARATE_ABOVE_BYTES", limit)
    monkeypatch.setattr(module, "_SMALL_BYTES", 10)
    (tmp_path / "out").mkdir()
    files = copy_model(external(tmp_path / "in"), tmp_path / "out")
    assert files == (("model.onnx", "model.onnx.data") if limit == 10 else ("model.onnx",))
    np.testing.assert_array_equal(loaded(tmp_path / "out")["w"], np.arange(16, dtype=np.float32).reshape(4, 4))


def test_numbers_in_typed_fields_are_moved_too(tmp_path: Path) -> None:
    proto = small_conv()
    values = np.arange(1024, dtype=np.float32)
    proto.graph.initializer.append(helper.make_tensor("typed", TensorProto.FLOAT, [1024], values.tolist()))
    proto.graph.node.append(helper.make_node("Identity", ["typed"], ["unused"]))
    (tmp_path / "out").mkdir()
    copy_model(load_model(write(proto, tmp_path / "in")), tmp_path / "out")
    np.testing.assert_array_equal(loaded(tmp_path / "out")["typed"], values)


def test_tensors_inside_control_flow_are_brought_into_the_model(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w.bin").write_bytes(np.float32([7, 8]).tobytes())
    tensor = onnx.TensorProto(name="inner", dims=[2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    branches: dict[str, Any] = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Identity", ["inner"], [f"{name}_out"])
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [2])
        branches[name] = helper.make_graph([node], name, [], [out], [tensor])
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], **branches)], "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    path = write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "in")
    (tmp_path / "out").mkdir()
    assert copy_model(load_model(path), tmp_path / "out") == ("model.onnx",)
    proto = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    inner = proto.graph.node[0].attribute[0].g.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(inner), [7, 8])


@pytest.mark.parametrize("data", [b"", b"\xff" * 40])
def test_a_damaged_file_is_a_value_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged|empty"):
        read_message(tmp_path / "m.onnx")
