"""Compiling for a target, and tuning the kernels that are edgepack's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess
from small_bundles import small_onnx

from edgepack.engines.targets import load_target
from edgepack.errors import CompileError
from edgepack.graph.load import load_model
from edgepack.pipeline.stages import compile as module
from edgepack.pipeline.stages.compile import compile_for_target, tune_kernels_of
from edgepack.specs.model import Diagnostic, OnnxModel

TARGET = load_target("host-onnxruntime")
ANY: Any = None


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return load_model(small_onnx(tmp_path / "m.onnx"))


def test_the_engines_files_are_written(model: OnnxModel, tmp_path: Path) -> None:
    found = compile_for_target(model, TARGET, "fp32", tmp_path / "out")
    assert (found.backend, found.precision, found.folder) == ("onnxruntime", "fp32", tmp_path / "out")
    assert all((found.folder / name).is_file() for name in found.files)


@pytest.mark.parametrize(
    ("diagnostics", "message"),
    [
        ([Diagnostic("error", "no Conv", "first", "use Gemm")], "will refuse the model: no Conv at node first"),
        ([Diagnostic("warning", "slow"), Diagnostic("error", "no Conv")], "will refuse the model: no Conv"),
        (
            [Diagnostic("error", "a", "x"), Diagnostic("error", "b"), Diagnostic("error", "c")],
            "a at node x (and 2 more)",
        ),
    ],
)
def test_what_is_refused_is_named_before_compiling(
    model: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diagnostics: list[Diagnostic], message: str
) -> None:
    class Backend:
        def check(self, *_: Any) -> list[Diagnostic]:
            return diagnostics

        def compile_model(self, *_: Any) -> Any:
            pytest.fail("it was compiled")

    monkeypatch.setattr(module, "get_backend", lambda _name: Backend())
    with pytest.raises(CompileError) as caught:
        compile_for_target(model, TARGET, "fp32", tmp_path / "out")
    assert message in caught.value.message
    assert caught.value.message.startswith("host-onnxruntime will refuse")


class Tuner:
    """What ``KernelTuner`` offers, remembering."""

    def __init__(self, *, here: bool) -> None:
        self.here, self.asked = here, []

    def can_measure_here(self, _target: Any) -> bool:
        return self.here

    def tune_model(self, *arguments: Any) -> None:
        self.asked.append(arguments)

    def tuned_digest(self, target: Any) -> str:
        return f"digest of {target.id}"


def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuner: Tuner | None) -> InProcess:
    monkeypatch.setattr(module, "kernel_tuner", lambda _name: tuner)
    runner: Any = InProcess(tmp_path)
    tune_kernels_of(runner, ANY, dataclasses.replace(TARGET, id="board"), "int8", 0.5, 7)
    return runner


def test_kernels_of_an_engine_itself_are_not_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tune(tmp_path, monkeypatch, None).events.notes == []


def test_what_cannot_be_measured_here_is_said_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(here=False)
    (note,) = tune(tmp_path, monkeypatch, tuner).events.notes
    assert "edgepack tune MODEL --target board --ssh USER@HOST" in note
    assert tuner.asked == []


def test_minutes_are_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(here=True)
    runner = tune(tmp_path, monkeypatch, tuner)
    ((_, target, precision, budget_ns, seed, log, events),) = tuner.asked
    assert (target.id, precision, budget_ns, seed) == ("board", "int8", 30_000_000_000, 7)
    assert (log, events) == (tmp_path / "tune.log", runner.events)


@pytest.mark.parametrize(("tuner", "tuned"), [(None, None), (Tuner(here=True), "digest of host-onnxruntime")])
def test_a_compiled_model_depends_on_what_was_tuned(monkeypatch: pytest.MonkeyPatch, tuner: Any, tuned: Any) -> None:
    monkeypatch.setattr(module, "kernel_tuner", lambda _name: tuner)
    found = module._toolchain(ANY, TARGET, "fp32")
    assert found["tuned"] == tuned
    assert "onnxruntime" in found["versions"]
