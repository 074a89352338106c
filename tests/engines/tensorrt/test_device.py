"""Building, keeping and running engines on a device, against TEST DOUBLES of TensorRT and of the CUDA runtime.

No line of this ran on a GPU: the doubles have the surface of each version, and compute by ONNX Runtime what an engine
would. Processes, locks, files, memory limits and kills are real.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jetson_bundles import MODELS, SURFACES, compiled_model, double_environment, feeds_for, reference

from edgepack.engines.common.threads import any_thread
from edgepack.engines.tensorrt import plan_cache
from edgepack.engines.tensorrt.builder import choose_workspace
from edgepack.engines.tensorrt.cuda import load_cuda
from edgepack.engines.tensorrt.device import find_device, import_tensorrt
from edgepack.engines.tensorrt.engine import load_model, versions
from edgepack.engines.tensorrt.load import ensure_engine
from edgepack.engines.tensorrt.recipe import read_recipe
from edgepack.errors import CompileError, DataError, EdgepackError, StorageError, ToolchainError
from edgepack.execution import child
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.model import CompiledModel

pytestmark = pytest.mark.slow

Use = Any
OPTIONS = RunOptions()


def run(compiled: CompiledModel, name: str, seed: int = 3) -> None:
    """Load, run twice and compare with bare ONNX Runtime; close and count what is still allocated."""
    runner = load_model(compiled, OPTIONS)
    try:
        for step in range(3):
            feeds = feeds_for(name, seed + step)
            expected = reference(compiled.folder / "model.onnx", feeds)
            found = runner.infer(feeds)
            assert set(found) == set(expected)
            for key, value in expected.items():
                assert found[key].dtype == value.dtype
                np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)
    finally:
        runner.close()
    assert _live() == 0


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
    assert _live() == 0


def _live() -> int:
    library = ctypes.CDLL(os.environ["EDGEPACK_CUDART"])
    library.double_live.restype = ctypes.c_long
    return int(library.double_live())


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
    run(compiled, name)
    assert builds() == 1
    run(compiled, name)
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


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_plan_is_bare_with_a_sidecar_that_says_what_it_fits(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    load_model(compiled, OPTIONS).close()
    (plan,) = (tmp_path / "plans").glob("*.plan")
    assert plan.read_bytes().startswith(b"PLAN OF A TEST DOUBLE"), "no header of ours: trtexec loads it"
    key = json.loads(plan.with_suffix(".json").read_text())["key"]
    assert set(key) == {"onnx", "recipe", "device"}
    assert set(key["device"]) == {"tensorrt", "cuda", "driver", "sm", "device", "l4t", "dla", "power_mode"}
    assert (key["device"]["sm"], key["device"]["tensorrt"]) == ("8.7", "10.3.0")
    assert len(list((tmp_path / "plans").glob("*.timing"))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"surface": "10.13"},
        {"DOUBLE_CUDA_SM": "86", "DOUBLE_CUDA_NAME": "another board"},
        {"DOUBLE_CUDA_DRIVER": "12080"},
    ],
)
def test_another_device_driver_or_version_builds_its_own(
    change: dict[str, str], device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    run(compiled, "static-int8")
    device(**change)
    run(compiled, "static-int8")
    assert builds() == 2
    device()
    run(compiled, "static-int8")
    assert builds() == 2, "the first one is still there"


@pytest.mark.parametrize("name", ["power_mode", "l4t_release", "nvidia_driver"])
def test_another_power_mode_release_or_driver_builds_its_own(
    name: str, device: Use, builds: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    run(compiled, "static-int8")
    monkeypatch.setattr(f"edgepack.engines.tensorrt.device.{name}", lambda: "2")
    run(compiled, "static-int8")
    assert builds() == 2


def test_another_recipe_or_model_builds_its_own(device: Use, tmp_path: Path) -> None:
    here = find_device()
    one = read_recipe(compiled_model("static-int8", tmp_path / "a").folder)
    other = read_recipe(compiled_model("static-int8", tmp_path / "b", "jetson-orin-nano-jp6").folder)
    third = read_recipe(compiled_model("dynamic-fp32", tmp_path / "c").folder)
    assert len({plan_cache.plan_key(recipe, here).name for recipe in (one, other, third)}) == 3
    assert plan_cache.plan_key(one, here) == plan_cache.plan_key(one, find_device())


@pytest.mark.parametrize("damage", ["cut", "flipped", "no-sidecar", "junk-sidecar", "other-sidecar"])
def test_a_damaged_plan_is_built_again_and_not_served(
    damage: str, device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    run(compiled, "static-int8")
    (plan,) = (tmp_path / "plans").glob("*.plan")
    data = plan.read_bytes()
    if damage == "cut":
        plan.write_bytes(data[:100])
    elif damage == "flipped":
        plan.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "no-sidecar":
        plan.with_suffix(".json").unlink()
    else:
        text = plan.with_suffix(".json").read_text()
        plan.with_suffix(".json").write_text("{" if damage == "junk-sidecar" else text.replace('"8.7"', '"8.6"'))
    run(compiled, "static-int8")
    assert builds() == 2
    run(compiled, "static-int8")
    assert builds() == 2


def test_a_whole_plan_that_does_not_deserialize_is_built_again(
    device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    """Its digest is right: the engine itself refuses it, as after an update that changed no version."""
    compiled = compiled_model("static-int8", tmp_path)
    run(compiled, "static-int8")
    (plan,) = (tmp_path / "plans").glob("*.plan")
    record = json.loads(plan.with_suffix(".json").read_text())
    plan.write_bytes(b"an engine of another world")
    import hashlib

    record["sha256"] = hashlib.sha256(plan.read_bytes()).hexdigest()
    record["size_bytes"] = plan.stat().st_size
    plan.with_suffix(".json").write_text(json.dumps(record))
    run(compiled, "static-int8")
    assert builds() == 2


def test_the_timing_cache_is_kept_and_used_again(device: Use, tmp_path: Path) -> None:
    for name in ("static-int8", "dynamic-fp32"):
        load_model(compiled_model(name, tmp_path / name), OPTIONS).close()
    sidecars = sorted((tmp_path / "plans").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    facts = [json.loads(sidecar.read_text())["build"]["timing_reused"] for sidecar in sidecars]
    assert facts == [False, True]


def test_a_timing_cache_that_tensorrt_refuses_counts_as_empty(
    device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    load_model(compiled_model("static-int8", tmp_path / "a"), OPTIONS).close()
    (timing,) = (tmp_path / "plans").glob("*.timing")
    for junk in (b"junk", b"TIMING of another version"):
        timing.write_bytes(junk)
        for plan in (tmp_path / "plans").glob("*.plan"):
            plan.unlink()
        load_model(compiled_model("static-int8", tmp_path / "a"), OPTIONS).close()
    assert builds() == 3
    assert timing.read_bytes().startswith(b"TIMING 10.3")


def test_a_folder_that_others_may_write_is_refused(device: Use, tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans").chmod(0o777)
    with pytest.raises(StorageError, match="other users"):
        load_model(compiled_model("static-int8", tmp_path), OPTIONS)


# --- builds that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("refuse", "Could not find any implementation for node conv"),
        ("killed", "SIGKILL, as "),
        ("crash", "SIGSEGV"),
    ],
)
def test_a_build_that_fails_is_one_error_and_leaves_nothing(
    how: str, words: str, device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    device(DOUBLE_BUILD=how)
    with pytest.raises(CompileError, match=words) as caught:
        load_model(compiled, OPTIONS)
    assert caught.value.hint
    assert not list((tmp_path / "plans").glob("*.plan*"))
    device(DOUBLE_BUILD="")
    run(compiled, "static-int8")
    assert builds() == 2


def test_a_parser_error_names_the_node(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    import onnx

    proto = onnx.load(compiled.folder / "model.onnx")
    proto.graph.node[-1].op_type = "Det"
    onnx.save(proto, compiled.folder / "model.onnx")
    recipe = json.loads((compiled.folder / "recipe.json").read_text())
    recipe["files"]["model.onnx"] = plan_cache.sha256_file(compiled.folder / "model.onnx")
    (compiled.folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(CompileError, match="at node conv"):
        load_model(compiled, OPTIONS)


def test_too_little_memory_is_told_before_the_build(device: Use, builds: Callable[[], int], tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    device(DOUBLE_CUDA_FREE=str(500 << 20))
    with pytest.raises(CompileError, match=r"0\.52 GB are available") as caught:
        load_model(compiled, OPTIONS)
    assert "swap" in caught.value.hint
    assert builds() == 0


def test_the_workspace_is_capped_by_what_is_free(device: Use, tmp_path: Path) -> None:
    recipe = read_recipe(compiled_model("static-int8", tmp_path).folder)
    device(DOUBLE_CUDA_FREE=str(recipe.memory_bytes + (100 << 20)))
    assert choose_workspace(recipe)[0] == 50 << 20
    device(DOUBLE_CUDA_FREE=str(recipe.memory_bytes + (20 << 20)))
    assert choose_workspace(recipe)[0] == 16 << 20


def test_no_memory_to_run_in_is_one_error(device: Use, tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    load_model(compiled, OPTIONS).close()
    device(DOUBLE_CUDA_LARGEST="100")
    with pytest.raises(EdgepackError, match="out of memory"):
        load_model(compiled, OPTIONS)
    assert _live() == 0
    device(DOUBLE_CUDA_LARGEST=str(1 << 30), DOUBLE_CONTEXT="none")
    with pytest.raises(CompileError, match="no memory to run"):
        load_model(compiled, OPTIONS)


def test_a_full_disk_is_one_error_and_leaves_no_plan(device: Use, tmp_path: Path) -> None:
    """Simulated by RLIMIT_FSIZE: no file may grow over 600 bytes, as on a disk that is full."""
    compiled = compiled_model("static-int8", tmp_path)
    code = (
        "import sys\nfrom edgepack.base import documents\n"
        "from edgepack.specs.model import CompiledModel\nfrom edgepack.specs.run import RunOptions\n"
        "from edgepack.engines.tensorrt.engine import load_model\n"
        "from edgepack.errors import EdgepackError\n"
        "compiled = documents.from_json(CompiledModel, sys.stdin.read(), 'compiled')\n"
        "try:\n    load_model(compiled, RunOptions())\n"
        "except EdgepackError as error:\n    print(type(error).__name__, error.message)\n"
    )
    from edgepack.base import documents

    done = subprocess.run(
        [sys.executable, "-c", code], input=documents.to_json(compiled), capture_output=True, text=True, check=True,
        env=double_environment(Path(os.environ["EDGEPACK_CUDART"]), EDGEPACK_PLANS=str(tmp_path / "plans")),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)),
    )  # fmt: skip
    assert "StorageError no space left" in done.stdout, done.stderr
    assert not [p for p in (tmp_path / "plans").iterdir() if p.suffix != ".lock"]


# --- two processes, and one that is killed ----------------------------------------------------------------------------

_LOAD = (
    "import sys\nfrom edgepack.base import documents\n"
    "from edgepack.specs.model import CompiledModel\nfrom edgepack.specs.run import RunOptions\n"
    "from edgepack.engines.tensorrt.engine import load_model\n"
    "compiled = documents.from_json(CompiledModel, sys.stdin.read(), 'compiled')\n"
    "load_model(compiled, RunOptions()).close(); print('loaded')\n"
)


def start(compiled: CompiledModel, tmp_path: Path, **more: str) -> subprocess.Popen[bytes]:
    from edgepack.base import documents

    environment = double_environment(
        Path(os.environ["EDGEPACK_CUDART"]), EDGEPACK_PLANS=str(tmp_path / "plans"), DOUBLE_LOG=str(tmp_path / "log"),
        **more,
    )  # fmt: skip
    place = tmp_path / "compiled.json"
    place.write_text(documents.to_json(compiled))
    with (
        place.open("rb") as question,
        (tmp_path / f"answer-{len(list(tmp_path.glob('answer-*')))}").open("wb") as answer,
    ):
        return subprocess.Popen([sys.executable, "-c", _LOAD], stdin=question, stdout=answer, env=environment)


def wait_for_builds(tmp_path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tmp_path / "log").exists() and len((tmp_path / "log").read_text().splitlines()) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no build began")


def test_two_processes_build_once(device: Use, builds: Callable[[], int], tmp_path: Path) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    processes = [start(compiled, tmp_path, DOUBLE_BUILD="sleep 1.5") for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert [path.read_text() for path in tmp_path.glob("answer-*")] == ["loaded\n"] * 2
    assert builds() == 1


def test_a_killed_build_leaves_nothing_and_the_next_one_builds(
    device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    compiled = compiled_model("static-int8", tmp_path)
    process = start(compiled, tmp_path, DOUBLE_BUILD="sleep 30")
    wait_for_builds(tmp_path, 1)
    builder = int((tmp_path / "log").read_text().split()[1])
    assert builder != process.pid, "the builder is a process of its own"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{builder}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{builder}").exists(), "the builder dies with its parent"
    assert not list((tmp_path / "plans").glob("*.plan"))
    run(compiled, "static-int8")
    assert builds() == 2


@pytest.mark.parametrize("after", ["plan", "sidecar"])
def test_a_process_killed_between_two_writes_leaves_what_is_built_again(
    after: str, device: Use, builds: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves after the plan's rename, or inside the write of its sidecar."""
    compiled = compiled_model("static-int8", tmp_path)
    run(compiled, "static-int8")
    (plan,) = (tmp_path / "plans").glob("*.plan")
    plan.with_suffix(".json").unlink()
    if after == "sidecar":
        (tmp_path / "plans" / f".{plan.stem}.json.abcd.tmp").write_text("{")
    run(compiled, "static-int8")
    assert builds() == 2
    assert not list((tmp_path / "plans").glob(".*.tmp"))


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("surface", "steps"), [("8.6", 0), ("10.3", 4)])
def test_progress_is_shown_as_far_as_the_version_tells_it(
    surface: str, steps: int, device: Use, tmp_path: Path
) -> None:
    device(surface)
    seen: list[tuple[str, int, int]] = []
    reason = ensure_engine(compiled_model("static-int8", tmp_path), lambda *step: seen.append(step))
    assert reason.startswith("the engine was built here now")
    assert max(total for _, _, total in seen) == steps
    assert not any("Tactic" in what for what, _, _ in seen), "inner phases are left out"
    assert ensure_engine(compiled_model("static-int8", tmp_path), lambda *_: None) == "the engine was built here before"


# --- the runner -------------------------------------------------------------------------------------------------------


def test_static_shapes_run_as_a_cuda_graph(device: Use, tmp_path: Path) -> None:
    runner = load_model(compiled_model("static-int8", tmp_path / "a"), OPTIONS)
    assert runner.graph == "captured"
    runner.close()
    runner = load_model(compiled_model("dynamic-fp32", tmp_path / "b"), OPTIONS)
    assert runner.graph == "not captured: shapes are dynamic"
    runner.close()
    assert _live() == 0


@pytest.mark.parametrize("variable", ["DOUBLE_CUDA_NO_CAPTURE", "DOUBLE_CUDA_BAD_CAPTURE"])
def test_an_engine_that_cannot_be_captured_runs_all_the_same(variable: str, device: Use, tmp_path: Path) -> None:
    device(**{variable: "1"})
    compiled = compiled_model("static-int8", tmp_path)
    runner = load_model(compiled, OPTIONS)
    assert runner.graph.startswith("not captured: cudaStream")
    runner.close()
    run(compiled, "static-int8")


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


def test_the_child_of_a_build_answers_through_the_same_protocol(device: Use, tmp_path: Path) -> None:
    """The builder's arguments and answer survive the way through JSON."""
    from edgepack.engines.tensorrt.builder import build_plan

    compiled = compiled_model("static-int8", tmp_path)
    facts = child.call(
        build_plan, compiled.folder, read_recipe(compiled.folder), tmp_path / "t.timing", tmp_path / "e.plan",
        limit_s=60, log=tmp_path / "build.log",
    )  # fmt: skip
    assert facts.seconds > 0
    assert (tmp_path / "e.plan").is_file()
