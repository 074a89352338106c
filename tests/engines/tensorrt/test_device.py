"""Building, keeping and running engines on a device, against TEST DOUBLES of TensorRT and of the CUDA runtime.

No line of this ran on a GPU: the doubles have the surface of each version, and compute by ONNX Runtime what an engine
would. Processes, locks, files, memory limits and kills are real.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jetson_bundles import (
    MODELS,
    OPTIONS,
    SURFACES,
    Use,
    compiled_model,
    run_and_compare,
)

from edgepack.engines.tensorrt.builder import choose_workspace
from edgepack.engines.tensorrt.cuda import load_cuda
from edgepack.engines.tensorrt.device import import_tensorrt
from edgepack.engines.tensorrt.engine import load_model, versions
from edgepack.engines.tensorrt.recipe import read_recipe
from edgepack.errors import CompileError, EdgepackError, ToolchainError

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.slow


# --- every surface ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surface", "name"),
    [*((s, n) for s in ("8.5", "10.3", "11.4") for n in MODELS), ("8.6", "static-fp16"), ("10.13", "static-int8")],
)
def test_an_engine_is_built_and_runs_on_each_version(
    surface: str, name: str, device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    device(surface)
    compiled = compiled_model(name, tmp_path)
    assert versions()["tensorrt"].startswith(surface)
    run_and_compare(compiled, name)
    assert builds() == 1
    run_and_compare(compiled, name)
    assert builds() == 1, "the kept engine is used"


@pytest.mark.parametrize("surface", SURFACES)
def test_a_double_has_what_its_version_has_and_nothing_else(surface: str, device: Use) -> None:
    device(surface)
    trt = import_tensorrt()
    new = surface not in ("8.5", "8.6")
    assert hasattr(trt, "IProgressMonitor") == new
    assert hasattr(trt.BuilderFlag, "FP16") == (surface != "11.4")
    assert hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == (surface != "11.4")
    assert hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") == new
    assert not hasattr(trt.ExecutionContext, "execute_async_v2")
    config = trt.Builder(trt.ILogger()).create_builder_config()
    if new:
        config.progress_monitor = None
    else:
        with pytest.raises(AttributeError):
            config.progress_monitor = None
    for wrong in ("max_workspace_size", "int8_calibrator"):
        with pytest.raises(AttributeError):
            setattr(config, wrong, 1)


def test_a_double_refuses_a_typed_graph_without_its_flags(device: Use, tmp_path: Path) -> None:
    device("8.5")
    compiled = compiled_model("static-fp16", tmp_path)
    path = compiled.folder / "recipe.json"
    data = json.loads(path.read_text())
    data["builder_flags"]["8"] = []
    path.write_text(json.dumps(data))
    with pytest.raises(CompileError, match="FP16 flag is not set"):
        load_model(compiled, OPTIONS)


def test_float32_stays_float32(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("dynamic-fp32", tmp_path)
    load_model(compiled, OPTIONS).close()
    plan = next((tmp_path / "plans").glob("*.plan")).read_bytes()
    head = json.loads(plan.split(b"\n")[1])
    assert head["tf32"] is False
    assert head["workspace"] == min(2 << 30, choose_workspace(read_recipe(compiled.folder))[0])


# --- devices that cannot ----------------------------------------------------------------------------------------------


def test_without_a_driver_tensorrt_is_not_even_imported(device: Use) -> None:
    device(DOUBLE_CUDA_DRIVER="0")
    with pytest.raises(ToolchainError, match="driver version is insufficient"):
        versions()
    assert "tensorrt" not in sys.modules


def test_without_a_gpu_or_runtime_the_reason_is_told(device: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    device(DOUBLE_CUDA_DEVICES="0")
    with pytest.raises(ToolchainError, match="no GPU"):
        versions()
    device(EDGEPACK_CUDART="/nowhere/libcudart.so")
    with pytest.raises(ToolchainError, match="no CUDA runtime"):
        versions()


def test_a_library_without_the_calls_is_refused(device: Use) -> None:
    device(EDGEPACK_CUDART="libc.so.6")
    with pytest.raises(ToolchainError, match="lacks a call"):
        load_cuda()


def test_a_stub_or_broken_module_is_told(device: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stub").mkdir()
    for text, words in (("__version__ = '10.9.0'", "stub"), ("raise OSError('libnvinfer.so.10')", "does not load")):
        (tmp_path / "stub" / "tensorrt.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / "stub"))
        sys.modules.pop("tensorrt", None)
        with pytest.raises(ToolchainError, match=words):
            versions()


def test_a_version_outside_the_recipe_is_refused(device: Use, tmp_path: Path) -> None:
    device("8.6")
    compiled = compiled_model("static-int8", tmp_path, "jetson-orin-nano-jp6")
    with pytest.raises(CompileError, match=r"older than the 10\.3"):
        load_model(compiled, OPTIONS)


def test_a_changed_model_file_is_refused(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    with (compiled.folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(EdgepackError, match="not the file that the recipe was made for"):
        load_model(compiled, OPTIONS)
