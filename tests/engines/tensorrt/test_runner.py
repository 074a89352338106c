"""Running engines on a device, against TEST DOUBLES of TensorRT and of the CUDA runtime."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jetson_bundles import (
    MODELS,
    OPTIONS,
    Use,
    compiled_model,
    feeds_for,
    live,
    reference,
    run_and_compare,
)

from edgepack.engines.common.threads import any_thread
from edgepack.engines.tensorrt.engine import load_model
from edgepack.errors import DataError, EdgepackError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MODELS)
def test_each_thread_has_a_context_and_buffers_of_its_own(name: str, device: Use, tmp_path: Path) -> None:
    device("10.3")
    compiled = compiled_model(name, tmp_path)
    runner = any_thread(load_model(compiled, OPTIONS))
    wrong: list[str] = []

    def work(number: int) -> None:
        feeds = feeds_for(name, number)
        expected = reference(compiled.folder / "model.onnx", feeds)
        for _ in range(20):
            found = runner.infer(feeds)
            time.sleep(0.001)  # another thread's call comes between this one and the reading of its outputs
            for key, value in expected.items():
                if not np.allclose(found[key], value, rtol=1e-5, atol=1e-5):
                    wrong.append(f"thread {number}: {key}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    runner.close()
    assert live() == 0


def test_static_shapes_run_as_a_cuda_graph(device: Use, tmp_path: Path) -> None:
    runner = load_model(compiled_model("static-int8", tmp_path / "a"), OPTIONS)
    assert runner.graph == "captured"
    runner.close()
    runner = load_model(compiled_model("dynamic-fp32", tmp_path / "b"), OPTIONS)
    assert runner.graph == "not captured: shapes are dynamic"
    runner.close()
    assert live() == 0


@pytest.mark.parametrize("variable", ["DOUBLE_CUDA_NO_CAPTURE", "DOUBLE_CUDA_BAD_CAPTURE"])
def test_an_engine_that_cannot_be_captured_runs_all_the_same(variable: str, device: Use, tmp_path: Path) -> None:
    device(**{variable: "1"})
    compiled = compiled_model("static-int8", tmp_path)
    runner = load_model(compiled, OPTIONS)
    assert runner.graph.startswith("not captured: cudaStream")
    runner.close()
    run_and_compare(compiled, "static-int8")


def test_dynamic_shapes_run_inside_the_profile_and_not_outside(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("dynamic-fp32", tmp_path)
    runner = load_model(compiled, OPTIONS)
    for shape in ((1, 1, 16), (8, 512, 16), (3, 7, 16), (8, 1, 16)):
        feeds = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
        found = runner.infer(feeds)["y"]
        np.testing.assert_allclose(found, reference(compiled.folder / "model.onnx", feeds)["y"], rtol=1e-4, atol=1e-4)
    for shape in ((9, 1, 16), (1, 513, 16)):
        with pytest.raises(DataError, match=r"\[1, 1, 16\] to \[8, 512, 16\]"):
            runner.infer({"x": np.zeros(shape, np.float32)})
    runner.close()


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"y": np.zeros((1, 3, 8, 8), np.float32)},
        {"x": np.zeros((1, 3, 8, 8), np.float64)},
        {"x": np.zeros((1, 3, 8, 9), np.float32)},
        {"x": np.zeros((2, 3, 8, 8), np.float32)},
        {"x": np.zeros((3, 8, 8), np.float32)},
        {"x": np.zeros((1, 3, 8, 8), ">f4")},
        {"x": [[1.0]]},
        {"x": np.zeros((1, 3, 8, 8), np.float32), "z": np.zeros(1)},
        [np.zeros((1, 3, 8, 8), np.float32)],
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_the_runner_lives_on(feeds: Any, device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    runner = load_model(compiled, OPTIONS)
    with pytest.raises(DataError):
        runner.infer(feeds)
    good = feeds_for("static-int8")
    expected = reference(compiled.folder / "model.onnx", good)["y"]
    np.testing.assert_allclose(runner.infer(good)["y"], expected, rtol=1e-5, atol=1e-5)
    runner.close()


def test_inputs_in_another_memory_order_are_taken(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    runner = load_model(compiled, OPTIONS)
    feeds = {"x": np.asfortranarray(feeds_for("static-int8")["x"])}
    expected = reference(compiled.folder / "model.onnx", feeds)["y"]
    np.testing.assert_allclose(runner.infer(feeds)["y"], expected, rtol=1e-5, atol=1e-5)
    runner.close()


def test_whole_numbers_beyond_32_bits_are_refused_before_tensorrt_10(device: Use, tmp_path: Path) -> None:
    device("8.6")
    runner = load_model(compiled_model("int64", tmp_path), OPTIONS)
    with pytest.raises(DataError, match="32 bits"):
        runner.infer({"x": np.array([[1, 2, 1 << 40]])})
    runner.close()


def test_a_closed_runner_says_so(device: Use, tmp_path: Path) -> None:
    runner = load_model(compiled_model("static-int8", tmp_path), OPTIONS)
    infer = runner.infer  # as a loaded model keeps it
    runner.close()
    runner.close()
    with pytest.raises(EdgepackError, match="this runner was closed"):
        infer(feeds_for("static-int8"))
