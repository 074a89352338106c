"""Building engines on a device: what fails, and several processes, on TEST DOUBLES of TensorRT and of CUDA."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from full_disk import full_disk
from jetson_bundles import (
    OPTIONS,
    Use,
    compiled_model,
    double_environment,
    live,
    run_and_compare,
)

from edgepack.engines.tensorrt import plan_cache
from edgepack.engines.tensorrt.builder import choose_workspace
from edgepack.engines.tensorrt.engine import load_model
from edgepack.engines.tensorrt.load import ensure_engine
from edgepack.engines.tensorrt.recipe import read_recipe
from edgepack.errors import CompileError, EdgepackError
from edgepack.execution import child

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.model import CompiledModel

pytestmark = pytest.mark.slow


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
    run_and_compare(compiled, "static-int8")
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
    assert live() == 0
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
        **full_disk(
            600, double_environment(Path(os.environ["EDGEPACK_CUDART"]), EDGEPACK_PLANS=str(tmp_path / "plans"))
        ),
    )  # fmt: skip
    assert "StorageError no space left" in done.stdout, done.stderr
    assert not [p for p in (tmp_path / "plans").iterdir() if p.suffix != ".lock"]


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
    run_and_compare(compiled, "static-int8")
    assert builds() == 2


@pytest.mark.parametrize("after", ["plan", "sidecar"])
def test_a_process_killed_between_two_writes_leaves_what_is_built_again(
    after: str, device: Use, builds: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves after the plan's rename, or inside the write of its sidecar."""
    compiled = compiled_model("static-int8", tmp_path)
    run_and_compare(compiled, "static-int8")
    (plan,) = (tmp_path / "plans").glob("*.plan")
    plan.with_suffix(".json").unlink()
    if after == "sidecar":
        (tmp_path / "plans" / f".{plan.stem}.json.abcd.tmp").write_text("{")
    run_and_compare(compiled, "static-int8")
    assert builds() == 2
    assert not list((tmp_path / "plans").glob(".*.tmp"))


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
