from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgepack.build.stages import choose_step, fingerprint, short
from edgepack.data.split import RANDOM_INPUTS, SampleRequest, random_inputs
from edgepack.errors import DataError
from edgepack.execution.events import Outcome
from edgepack.execution.runner import Workshop, code_digest
from edgepack.execution.store import Store
from edgepack.specs import TensorSpec

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

    def note(self, text: str) -> None: ...


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    store = Store(tmp_path / "store")
    return Workshop(store, tmp_path / "logs", Recorder(), 60.0, code_digest(store))


def outcomes(shop: Workshop) -> list[tuple[str, Outcome]]:
    assert isinstance(shop.events, Recorder)
    return shop.events.ended


def test_a_stage_runs_once_for_the_same_inputs(shop: Workshop) -> None:
    first = shop.run("data", "", {"seed": 1}, random_inputs, INPUTS, 1, kind=Path)
    again = shop.run("data", "", {"seed": 1}, random_inputs, INPUTS, 1, kind=Path)
    other = shop.run("data", "", {"seed": 2}, random_inputs, INPUTS, 2, kind=Path)
    assert first == again != other
    assert outcomes(shop) == [("data", "done"), ("data", "reused"), ("data", "done")]


def test_a_failed_stage_is_said_and_not_kept(shop: Workshop, tmp_path: Path) -> None:
    request = SampleRequest(str(tmp_path / "nothing"), None)
    for _ in range(2):
        with pytest.raises(DataError):
            choose_step(shop, request, INPUTS)
    assert outcomes(shop) == [("samples", "failed")] * 2
    assert not list((shop.store.folder / "samples").iterdir())


def test_user_code_that_changed_runs_again(shop: Workshop, tmp_path: Path) -> None:
    code = (
        "import numpy as np\ndef f():\n    for i in range({}):\n        yield dict(x=np.full((1, 3), i, 'float32'))\n"
    )
    file = tmp_path / "data.py"
    request = SampleRequest(None, f"{file}:f")
    file.write_text(code.format(4))
    assert len(choose_step(shop, request, INPUTS).evaluation.indices) == 4
    choose_step(shop, request, INPUTS)
    file.write_text(code.format(6))
    os.utime(file, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))
    assert len(choose_step(shop, request, INPUTS).evaluation.indices) == 6
    assert outcomes(shop) == [("samples", "done"), ("samples", "reused"), ("samples", "done")]


def test_without_data_random_inputs_evaluate_and_it_is_said(shop: Workshop) -> None:
    selection = choose_step(shop, SampleRequest(None, None), INPUTS)
    assert selection.calibration is None
    assert len(selection.evaluation.indices) == RANDOM_INPUTS
    assert "no data was given" in selection.notes[0]


def test_fingerprints_tell_changed_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    before = fingerprint(str(tmp_path))
    assert before == fingerprint(str(tmp_path))
    (tmp_path / "b.png").write_bytes(b"2")
    assert before != fingerprint(str(tmp_path))
    assert fingerprint("package.module:name") == "package.module:name"


def test_long_places_are_shown_short() -> None:
    assert short("net.onnx") == "net.onnx"
    assert short("/a/very/long/path/that/nobody/wants/to/read/in/a/terminal/data.npz") == "…/data.npz"
