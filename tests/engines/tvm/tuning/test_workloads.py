"""The kernels of a model, counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from quantize_models import save

from edgepack.engines.targets import load_target
from edgepack.engines.tvm.tuning import workloads
from edgepack.engines.tvm.tuning.workloads import kernels_of
from edgepack.errors import CompileError
from edgepack.specs.model import OnnxModel


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """Two convolutions of the same sizes, one of others, and a product."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "v"], ["b"], pads=[1] * 4),
        helper.make_node("Conv", ["b", "u"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    shapes = {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3), "u": (16, 8, 1, 1), "m": (16, 5)}
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 8, 6, 6]})


def test_kernels_of_the_same_sizes_are_one_with_its_calls(model: OnnxModel) -> None:
    found = kernels_of(model, load_target("raspberry-pi-5-tvm"), "fp32")
    kinds = {(used.workload.kind, used.workload.kernel, used.workload.outputs): used.count for used in found}
    assert kinds == {("window", (3, 3), 8): 2, ("flat", (1, 1), 16): 1, ("flat", (1, 1), 5): 1}
    assert all(used.workload.types == ("float32", "float32", "float32") for used in found)


def test_samples_that_depend_on_each_other_have_no_tiles(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "batch_kind", lambda _model: "free")
    with pytest.raises(CompileError, match=r"samples of a batch of m\.onnx depend on each other") as caught:
        kernels_of(dataclasses.replace(model), load_target("raspberry-pi-5-tvm"), "fp32")
    assert "--shape" in str(caught.value.hint)
