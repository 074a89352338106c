"""Stages run once for the same inputs, and again when anything that they depend on changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgepack.data.split import RANDOM_INPUTS, SampleRequest, random_inputs
from edgepack.device.host import host_facts
from edgepack.errors import DataError
from edgepack.execution.events import Outcome
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.pipeline.stages.samples import select_samples
from edgepack.specs.model import TensorSpec

INPUTS = (TensorSpec("x", "float32", ("N", 3)),)


class Recorder:
    """``Events`` that remembers how stages ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Outcome]] = []
        self._stage = ""

    def begin(self, stage: str, detail: str) -> None:
        self._stage = stage

    def progress(self, what: str, done: int, total: int, /) -> None: ...

    def end(self, outcome: Outcome, detail: str) -> None:
        self.ended.append((self._stage, outcome))

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None: ...

    def said(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.fixture
def runner(tmp_path: Path) -> StageRunner:
    return StageRunner(Store(tmp_path / "store"), tmp_path / "logs", Recorder(), 60.0, host_facts())


def outcomes(runner: StageRunner) -> list[tuple[str, Outcome]]:
    assert isinstance(runner.events, Recorder)
    return runner.events.ended


def test_a_stage_runs_once_for_the_same_inputs(runner: StageRunner) -> None:
    first = runner.run(random_inputs, INPUTS, None, 1)
    again = runner.run(random_inputs, INPUTS, None, 1)
    other = runner.run(random_inputs, INPUTS, None, 2)
    assert first == again != other
    assert outcomes(runner) == [("data", "done"), ("data", "reused"), ("data", "done")]


def test_what_is_not_a_stage_is_refused(runner: StageRunner) -> None:
    with pytest.raises(TypeError, match="select_samples is not a stage"):
        runner.run(select_samples, 1)


def test_a_failed_stage_is_said_and_not_kept(runner: StageRunner, tmp_path: Path) -> None:
    request = SampleRequest(str(tmp_path / "nothing"), None)
    for _ in range(2):
        with pytest.raises(DataError):
            select_samples(runner, request, INPUTS)
    assert outcomes(runner) == [("samples", "failed")] * 2
    assert not list((runner.store.folder / "samples").iterdir())


def test_user_code_that_changed_runs_again(runner: StageRunner, tmp_path: Path) -> None:
    """Also code that the user's file only imports: the files that were read are kept, and looked at again."""
    (tmp_path / "data.py").write_text(
        "import numpy as np\nfrom number import N\n"
        "def f():\n    for i in range(N):\n        yield dict(x=np.full((1, 3), i, 'float32'))\n"
    )
    file = tmp_path / "number.py"
    request = SampleRequest(None, f"{tmp_path / 'data.py'}:f")
    file.write_text("N = 4\n")
    assert len(select_samples(runner, request, INPUTS).evaluation.indices) == 4
    select_samples(runner, request, INPUTS)
    file.write_text("N = 6\n")
    os.utime(file, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))
    assert len(select_samples(runner, request, INPUTS).evaluation.indices) == 6
    assert outcomes(runner) == [("samples", "done"), ("samples", "reused"), ("samples", "done")]


def test_without_data_random_inputs_evaluate_and_it_is_said(runner: StageRunner) -> None:
    selection = select_samples(runner, SampleRequest(None, None), INPUTS)
    assert selection.calibration is None
    assert len(selection.evaluation.indices) == RANDOM_INPUTS
    assert "no data was given" in selection.notes[0]
