"""How a target's files are run here, and what a row says when this host is not the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made_up import HOST

from edgepack.engines import ENGINES
from edgepack.engines.fallback import LABEL
from edgepack.pipeline import targets
from edgepack.pipeline.targets import as_one_run, how_to_run
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Compute, EngineFacts, QuantizationRules, Target

# An x86 with AVX2 and VNNI.
HERE = dataclasses.replace(HOST, isa=("avx2", "avx_vnni", "fma"))
BOARD = Target("board", "Board", "onnxruntime", "aarch64")
OWN_CODE = next(name for name, engine in ENGINES.all() if engine.self_contained)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host is the device "me" alone."""
    monkeypatch.setattr(targets, "is_this_host", lambda target, _host: target.id == "me")


def test_this_host_is_run_as_it_is() -> None:
    assert how_to_run(dataclasses.replace(BOARD, id="me"), HERE) == (RunOptions(), {})


def test_runs_that_are_the_same_are_one(tmp_path: Path) -> None:
    model = CompiledModel("engine", "fp32", tmp_path, "x", (), (), (), {}, device="CPU")
    gpu = dataclasses.replace(model, device="GPU")
    same = (model, RunOptions(threads=2))
    assert as_one_run(model, RunOptions(threads=2)) == same
    assert as_one_run(model, RunOptions(threads=2, device="CPU")) == same
    assert as_one_run(gpu, RunOptions(threads=2, device="CPU")) == same
    assert as_one_run(gpu, RunOptions()) == (gpu, RunOptions())
    assert as_one_run(model, RunOptions(device="GPU")) == (gpu, RunOptions())


def test_another_device_has_no_latency_here() -> None:
    options, notes = how_to_run(BOARD, HERE)
    assert options == RunOptions(device="CPU")
    assert notes["latency"] == "not measured: no such device here"
    assert HOST.cpu in notes["verification"]
    assert set(notes) == {"latency", "verification"}


def test_what_a_device_builds_is_run_as_it_was_shipped() -> None:
    options, notes = how_to_run(dataclasses.replace(BOARD, engine=EngineFacts(build_on="device")), HERE)
    assert options == RunOptions(device="CPU", optimization="off")
    assert notes["verification"].startswith(LABEL)


@pytest.mark.parametrize(
    ("changes", "note", "words"),
    [
        ({"arch": "x86_64", "quantization": QuantizationRules(saturates=True)}, "saturation", "this host does not"),
        ({"arch": "x86_64", "compute": Compute(isa=("avx2", "avx512f"))}, "isa", "this host lacks avx512f"),
        ({"arch": "x86_64", "compute": Compute(isa=("avx2",))}, "isa", None),
        ({"compute": Compute(isa=("asimddp",))}, "isa", None),  # of another architecture every flag is missing
        ({"backend": OWN_CODE}, "code", "the machine code in the bundle is the device's and was not run"),
        ({}, "code", None),
    ],
)
def test_what_differs_from_the_device_is_said(changes: dict[str, Any], note: str, words: str | None) -> None:
    _, notes = how_to_run(dataclasses.replace(BOARD, **changes), HERE)
    if words is None:
        assert note not in notes
    else:
        assert words in notes[note]
