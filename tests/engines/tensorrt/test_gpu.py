"""Real TensorRT engines on a real NVIDIA GPU: built, kept, run, verified. Skipped where there is none, with the reason.

Nothing here is a double. No machine with a GPU has run it yet; what it finds on the first one is to be believed before
anything that the tests with doubles say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from jetson_bundles import MODELS, compiled_model, feeds_for, jetson_bundle, reference

from edgepack.engines.targets import load_target
from edgepack.engines.tensorrt.device import find_device
from edgepack.engines.tensorrt.engine import load_model, versions
from edgepack.runtime.install import install
from edgepack.runtime.verify import verify
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_PLANS", str(tmp_path / "plans"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))


def test_this_machine_says_what_it_is() -> None:
    device = find_device()
    print(device)
    assert versions()["tensorrt"] == device.tensorrt
    assert load_target("host-tensorrt").backend == "tensorrt"


@pytest.mark.parametrize("name", MODELS)
def test_a_real_engine_agrees_with_onnx_runtime(name: str, tmp_path: Path) -> None:
    """fp32 without TF32 to rounding; fp16 and int8 graphs to half precision's and one step's difference."""
    compiled = compiled_model(name, tmp_path)
    runner = load_model(compiled, RunOptions())
    print(name, runner.graph)
    tolerance = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2}[compiled.precision]
    try:
        for seed in range(5):
            feeds = feeds_for(name, seed)
            expected = reference(compiled.folder / "model.onnx", feeds)
            for key, value in runner.infer(feeds).items():
                assert value.dtype == expected[key].dtype
                np.testing.assert_allclose(value, expected[key], rtol=tolerance, atol=tolerance)
    finally:
        runner.close()


def test_static_shapes_are_captured_as_a_cuda_graph(tmp_path: Path) -> None:
    runner = load_model(compiled_model("static-int8", tmp_path), RunOptions())
    runner.close()
    assert runner.graph == "captured"


@pytest.mark.parametrize("name", ["static-int8", "static-fp16", "dynamic-fp32"])
def test_a_bundle_is_installed_and_proves_itself(name: str, tmp_path: Path) -> None:
    bundle = jetson_bundle(name, tmp_path)
    record = install(bundle, tmp_path / "root")
    assert (record.engine, record.passed_over) == ("tensorrt GPU", ())
    assert record.verification.passed
    print(record.chosen, [(o.name, o.sqnr_db) for o in record.verification.outputs])
    assert verify(tmp_path / "root" / "current" / f"{name}-model.edgepack").note == "the engine was built here before"
