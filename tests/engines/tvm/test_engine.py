"""What is TVM's alone: pinned versions, memory counted before, devices that this host is not."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import backend_models
import numpy as np
import pytest
from backend_models import FLOAT, make, save
from onnx import helper

from edgepack.bundle.requirements import requirements
from edgepack.device.host import host_facts
from edgepack.engines.targets import load_target
from edgepack.engines.tvm import engine as backend
from edgepack.engines.tvm.elf import machine_of
from edgepack.engines.tvm.libraries import FOLDER_VARIABLE, runtime_files
from edgepack.errors import ToolchainError
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Limits

pytestmark = pytest.mark.slow

HELPERS = Path(__file__).resolve().parents[2] / "helpers"


@pytest.fixture(autouse=True)
def needs_tvm() -> None:
    try:
        backend.versions()
    except ToolchainError as error:
        pytest.skip(f"{error.message}: {error.hint}")


def pretend(monkeypatch: pytest.MonkeyPatch, tvm: str, ffi: str) -> None:
    known = {"apache-tvm": tvm, "apache-tvm-ffi": ffi}
    monkeypatch.setattr(backend, "engine_version", lambda *names: known[names[-1]])


@pytest.mark.parametrize("version", ["0.1.15", "0.1.15.post1", "0.1.15.post2"])
def test_an_ffi_that_is_known_to_crash_is_refused_with_the_pin(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "0.27.0.post1", version)
    with pytest.raises(ToolchainError, match=f"apache-tvm-ffi {version} is known to crash") as caught:
        backend.versions()
    assert "'apache-tvm-ffi==0.1.14.post1'" in caught.value.hint


def test_another_tvm_is_refused_with_the_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "0.28.0", "0.1.14.post1")
    with pytest.raises(ToolchainError, match=r"apache-tvm 0\.28\.0") as caught:
        backend.versions()
    assert "'apache-tvm==0.27.0.post1'" in caught.value.hint


def test_a_model_that_does_not_fit_the_memory_is_refused_before_compiling(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Tile", ["x", "times"], ["wide"], "grow"),
        helper.make_node("ReduceMean", ["wide"], ["y"], "shrink", axes=[1]),
    ]
    weights = {"times": np.array([1, 1 << 20])}
    model = save(make(nodes, [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 1])], weights), tmp_path / "m.onnx")
    target = load_target("host-tvm")
    small = dataclasses.replace(target, limits=Limits(memory_bytes=16 << 20))
    (found,) = backend.check(model, small)
    assert (found.severity, found.node) == ("error", "grow")
    assert "16.0 MiB for tensors" in found.message
    assert backend.check(model, dataclasses.replace(target, limits=Limits(memory_bytes=32 << 20))) == []


def test_for_a_device_with_other_instructions_numerics_are_checked_by_a_twin(tmp_path: Path) -> None:
    """The device has an instruction that this host lacks; one of another architecture goes the same way."""
    host = load_target("host-tvm")
    lacking = "amx_fp16"
    if lacking in host_facts().isa:
        pytest.skip(f"this host has {lacking}")
    target = dataclasses.replace(
        host, id="other", compute=dataclasses.replace(host.compute, isa=(*host.compute.isa, lacking))
    )
    model = save(backend_models.conv(), tmp_path / "m.onnx")
    compiled = backend.compile_model(model, target, "fp32", tmp_path / "out")
    assert "host" not in {name.partition("/")[0] for name in compiled.files}
    assert (tmp_path / "out" / "host" / "model.so").is_file()
    runner = backend.load_model(compiled, RunOptions(threads=1))
    assert runner.infer(backend_models.feeds("conv"))["scores"].shape == (1, 10)
    runner.close()


def test_riscv64_is_compiled_and_linked_where_the_user_supplies_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries are this machine's with another processor in their headers: they are packed and not run."""
    (tmp_path / "own" / "riscv64").mkdir(parents=True)
    for name, path in runtime_files(host_facts().arch, backend.versions()).items():
        data = bytearray(path.read_bytes())
        data[18:20] = (243).to_bytes(2, "little")
        (tmp_path / "own" / "riscv64" / name).write_bytes(data)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "own"))
    model = save(backend_models.conv(), tmp_path / "m.onnx")
    target = load_target("riscv64-rva22v-tvm")
    compiled = backend.compile_model(model, target, "fp32", tmp_path / "out")
    assert {machine_of(tmp_path / "out" / name) for name in ("model.so", "runner", "libtvm_ffi.so")} == {"riscv64"}
    needs = requirements(compiled, target)
    assert (needs.arch, needs.isa, dict(needs.engine)) == ("riscv64", ("v",), {})
    runner = backend.load_model(compiled, RunOptions(threads=1))  # its twin for this host
    assert runner.infer(backend_models.feeds("conv"))["scores"].shape == (1, 10)
    runner.close()


def test_outputs_are_written_into_the_same_arrays_where_asked(tmp_path: Path) -> None:
    model = save(backend_models.conv(), tmp_path / "m.onnx")
    compiled = backend.compile_model(model, load_target("host-tvm"), "fp32", tmp_path / "out")
    plain = backend.load_model(compiled, RunOptions(threads=1))
    reusing = backend.load_model(compiled, RunOptions(threads=1, reuse_outputs=True))
    feeds = backend_models.feeds("conv")
    other = {name: 2 * value for name, value in feeds.items()}
    first = reusing.infer(feeds)["scores"]
    assert reusing.infer(other)["scores"] is first
    np.testing.assert_array_equal(first, plain.infer(other)["scores"])
    assert plain.infer(feeds)["scores"] is not plain.infer(feeds)["scores"]


def test_another_runner_infers_in_another_thread(tmp_path: Path) -> None:
    model = save(backend_models.conv(), tmp_path / "m.onnx")
    compiled = backend.compile_model(model, load_target("host-tvm"), "fp32", tmp_path / "out")
    runners = [backend.load_model(compiled, RunOptions(threads=1))]
    runners += [runners[0].another() for _ in range(2)]
    wanted = {n: runners[0].infer(backend_models.feeds("conv", n))["scores"] for n in (1, 2, 3)}
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(60):
            batch = 1 + (number + i) % 3
            found = runners[number].infer(backend_models.feeds("conv", batch))["scores"]
            if not np.array_equal(found, wanted[batch]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(runners))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_batch_whose_samples_depend_on_each_other_is_run_at_once_and_said_to_be_slow(tmp_path: Path) -> None:
    proto = make(
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)], [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])]
    )
    model, target = save(proto, tmp_path / "m.onnx"), load_target("host-tvm")
    (found,) = backend.check(model, target)
    assert (found.severity, "slower" in found.message) == ("warning", True)
    runner = backend.load_model(backend.compile_model(model, target, "fp32", tmp_path / "out"), RunOptions(threads=1))
    for batch in (1, 3, 2):
        x = np.random.default_rng(batch).standard_normal((batch, 4)).astype(np.float32)
        wanted = np.exp(x) / np.exp(x).sum(0)
        np.testing.assert_allclose(runner.infer({"x": x})["y"], wanted, atol=1e-6)
    runner.close()


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT"])
def test_a_crash_inside_llvm_ends_with_one_error(signal: str, tmp_path: Path) -> None:
    """The crash is a test double's, in the child process, at the call that generates code: crashing_llvm.py."""
    model = save(backend_models.conv(), tmp_path / "model.onnx")
    (tmp_path / "sitecustomize.py").write_text(
        "import edgepack.engines\nedgepack.engines.ENGINES.own.update(tvm='crashing_llvm:ENGINE')\n"
    )
    out = tmp_path / "out"
    words = [sys.executable, "-m", "edgepack", "compile", model.path, "--target", "host-tvm", "-o", out]
    here = [tmp_path, HELPERS, Path(backend.__file__).parents[3]]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(map(str, here)), "CRASHING_LLVM": signal,
        "EDGEPACK_STORE": str(tmp_path / "store"),
    }  # fmt: skip
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 4, said
    assert f"crashed (killed by {signal})" in said
    assert "its last output is in" in said
    assert "Traceback" not in said
    logs = [path.read_text() for path in (tmp_path / "store" / "logs").glob("compile-*.log")]
    assert any("LLVM ERROR (test double): cannot select" in text for text in logs)
    assert not out.exists()
