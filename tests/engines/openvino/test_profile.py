"""The nodes that OpenVINO runs, with their times and bytes."""

from __future__ import annotations

from pathlib import Path

import backend_models
import numpy as np
import pytest
from backend_models import MODELS, save

from edgepack.engines.common import profile as common
from edgepack.engines.common.profile import Profile
from edgepack.engines.openvino import engine as openvino_engine
from edgepack.engines.openvino.profile import profile
from edgepack.errors import CompileError
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "_DURATION_S", 0.0)


def profiled(tmp_path: Path, name: str, *, fixed_batch: int | None = None, batch: int = 1) -> Profile:
    model = save(MODELS[name](), tmp_path / "m.onnx")
    compiled = openvino_engine.compile_model(model, Target("t", "T", "openvino", "x86_64"), "fp32", tmp_path / "out")
    feeds = [backend_models.feeds(name, batch)]
    options = RunOptions(threads=1, fixed_batch=fixed_batch)
    return profile(compiled.folder / compiled.entry, feeds, compiled.inputs, "fp32", options, "CPU")


@pytest.mark.parametrize("fixed_batch", [None, 0])
def test_a_convolution_is_found_with_its_weights_and_activations(tmp_path: Path, fixed_batch: int | None) -> None:
    """Also where the batch is free, and the nodes themselves do not tell their sizes."""
    found = profiled(tmp_path, "conv", fixed_batch=fixed_batch, batch=2)
    conv = next(node for node in found.nodes if "first" in node.originals)
    assert conv.executed == "fp32"
    assert not conv.conversion
    assert conv.weight_bytes >= 4 * 8 * 27
    pictures, made = 4 * 2 * 3 * 12 * 12, 4 * 2 * 8 * 6 * 6
    assert conv.moved_bytes is not None
    assert pictures + made + conv.weight_bytes <= conv.moved_bytes <= 3 * (pictures + made) + conv.weight_bytes
    assert found.runs == 5
    assert found.time_ns > 0


def test_int8_is_seen_where_it_runs(tmp_path: Path) -> None:
    conv = next(node for node in profiled(tmp_path, "quantized").nodes if "conv" in node.originals)
    assert conv.executed == "int8"


def test_nodes_name_those_before_them(tmp_path: Path) -> None:
    nodes = profiled(tmp_path, "conv").nodes
    names = {node.name for node in nodes}
    reads = [before for node in nodes for before in node.before]
    assert any(before in names for before in reads)
    assert len(names) == len(nodes)


def test_what_it_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<net/>")
    with pytest.raises(CompileError, match=r"OpenVINO refused bad\.xml"):
        profile(tmp_path / "bad.xml", [{"x": np.zeros(1, np.float32)}], (), "fp32", RunOptions(), "CPU")
