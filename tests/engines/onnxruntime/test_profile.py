"""The nodes that ONNX Runtime runs, with their times and bytes."""

from __future__ import annotations

from pathlib import Path

import backend_models
import pytest
from backend_models import MODELS, save

from edgepack.engines.common import profile as common
from edgepack.engines.common.profile import Profile
from edgepack.engines.onnxruntime.profile import profile
from edgepack.errors import CompileError
from edgepack.specs.run import RunOptions


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "_DURATION_S", 0.0)


def profiled(tmp_path: Path, name: str, batch: int = 1, **options: object) -> Profile:
    path = save(MODELS[name](), tmp_path / "m.onnx").path
    feeds = [backend_models.feeds(name, batch)]
    return profile(path, feeds, (), "fp32", RunOptions(threads=1, **options), "CPU")  # type: ignore[arg-type]


@pytest.mark.parametrize("optimization", ["off", "all"])
def test_a_convolution_is_found_under_its_name_with_its_bytes(tmp_path: Path, optimization: str) -> None:
    found = profiled(tmp_path, "conv", 2, optimization=optimization)
    conv = next(node for node in found.nodes if {"first", "c", "r"} & set(node.originals))
    assert conv.executed == "fp32"
    assert conv.kernel in ("Conv", "FusedConv")
    assert conv.weight_bytes >= 4 * 8 * 27
    assert conv.moved_bytes is not None
    assert conv.moved_bytes >= conv.weight_bytes + 4 * 2 * (3 * 144 + 8 * 36)
    assert found.runs == 5


def test_int8_is_seen_where_it_runs(tmp_path: Path) -> None:
    found = profiled(tmp_path, "quantized")
    assert [node.executed for node in found.nodes if node.kernel.startswith("QLinearConv")] == ["int8"]
    assert {node.kernel for node in found.nodes if node.conversion} >= {"QuantizeLinear", "DequantizeLinear"}


def test_a_16_bit_model_converts_around_its_kernels(tmp_path: Path) -> None:
    found = profiled(tmp_path, "half")
    assert any(node.conversion and node.kernel == "Cast" for node in found.nodes)
    assert found.time_ns >= 0


def test_nodes_name_those_before_them(tmp_path: Path) -> None:
    nodes = profiled(tmp_path, "conv", optimization="off").nodes
    assert [node.before for node in nodes] == [(), ("first",), ("second",), ("third",), ("fourth",)]


def test_a_node_with_bodies_is_one(tmp_path: Path) -> None:
    assert [node.kernel for node in profiled(tmp_path, "branches").nodes].count("If") == 1


def test_what_it_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(CompileError, match=r"bad\.onnx: not an ONNX file"):
        profile(tmp_path / "bad.onnx", [{}], (), "fp32", RunOptions(), "CPU")
