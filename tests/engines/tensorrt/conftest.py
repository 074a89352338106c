"""Fixtures of the TensorRT tests."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from jetson_bundles import DOUBLES

from edgepack.engines.targets import load_target
from edgepack.engines.tensorrt.cuda import load_cuda
from edgepack.graph.load import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import Target


@pytest.fixture
def jetson() -> Target:
    return load_target("jetson-orin-nano-jp6")


@pytest.fixture
def jetson_5() -> Target:
    return load_target("jetson-orin-nano-jp5")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., OnnxModel]:
    """Write a model and load it checked; one that onnx's own checker refuses is described without it."""

    def write(proto: onnx.ModelProto, name: str = "model.onnx") -> OnnxModel:
        path = tmp_path / name
        onnx.save(proto, path)
        return load_model(path)

    return write


@pytest.fixture
def with_memory() -> Callable[..., Target]:
    def change(target: Target, memory_bytes: int) -> Target:
        return dataclasses.replace(target, limits=dataclasses.replace(target.limits, memory_bytes=memory_bytes))

    return change


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test double of the CUDA runtime, compiled from ``doubles/cudart_double.c``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here to make the double of the CUDA runtime with")
    library = tmp_path_factory.mktemp("cuda") / "libcudart_double.so"
    source = DOUBLES / "cudart_double.c"
    subprocess.run([compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@pytest.fixture
def device(cudart: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Make this process find the doubles of TensorRT (a function: of which version) and of CUDA."""

    def use(surface: str = "10.3", **more: str) -> None:
        values = {"EDGEPACK_CUDART": str(cudart), "DOUBLE_TENSORRT": surface, "DOUBLE_LOG": str(tmp_path / "log")}
        for name, value in {**values, **more}.items():
            monkeypatch.setenv(name, value)
        sys.modules.pop("tensorrt", None)
        load_cuda.cache_clear()

    monkeypatch.syspath_prepend(str(DOUBLES))
    monkeypatch.setenv("EDGEPACK_PLANS", str(tmp_path / "plans"))
    use()
    yield use
    sys.modules.pop("tensorrt", None)
    load_cuda.cache_clear()


@pytest.fixture
def builds(tmp_path: Path) -> Callable[[], int]:
    """A function that counts the builds that were begun, in all processes."""

    def count() -> int:
        log = tmp_path / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    return count


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Skip what needs tensorrt-rtx or an NVIDIA GPU where they are not, with the reason."""
    proxy = importlib.util.find_spec("tensorrt_rtx") is not None
    gpu = Path("/proc/driver/nvidia/version").exists() and importlib.util.find_spec("tensorrt") is not None
    for item in items:
        if "tensorrt_rtx" in item.keywords and not proxy:
            item.add_marker(pytest.mark.skip(reason="tensorrt-rtx is not installed: make test-tensorrt"))
        if "gpu" in item.keywords and not gpu:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA driver with TensorRT's Python module here"))
