"""What this machine loads for an engine that only a device has, and what the figures are then called."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgepack.engines import ENGINES, REFERENCE, get_backend
from edgepack.engines.fallback import LABEL, build_versions, measured_with, runs_here
from edgepack.engines.targets import load_target
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions, Verification

ON_DEVICE = next(name for name, engine in ENGINES.all() if engine.built_on_device)
JETSON = load_target("jetson-orin-nano-jp6")
CPU = RunOptions(device="CPU")


def compiled(backend: str) -> CompiledModel:
    return CompiledModel(backend, "int8", Path("x"), "m.onnx", ("m.onnx",), (), (), {backend: "9.9"}, device="GPU")


def verified(engine: str) -> Verification:
    return Verification(True, (), 1, engine, {engine: "1.2.3", "other": "4"}, ())


def test_a_devices_file_is_run_by_the_reference() -> None:
    found = runs_here(compiled(ON_DEVICE), CPU)
    assert (found.backend, found.device) == (REFERENCE, "CPU")
    assert found.versions == get_backend(REFERENCE).versions()
    assert found.entry == "m.onnx"


@pytest.mark.parametrize(
    ("backend", "options"), [(ON_DEVICE, RunOptions()), (ON_DEVICE, RunOptions(device="GPU")), (REFERENCE, CPU)]
)
def test_what_can_run_here_is_left_as_it_is(backend: str, options: RunOptions) -> None:
    model = compiled(backend)
    assert runs_here(model, options) is model


def test_figures_of_a_stand_in_are_called_so() -> None:
    assert measured_with(compiled(ON_DEVICE), verified(REFERENCE)) == f"{LABEL} 1.2.3, 4"
    assert measured_with(compiled(ON_DEVICE), verified(ON_DEVICE)) == f"{ON_DEVICE} 1.2.3, 4"
    assert measured_with(compiled(REFERENCE), verified(REFERENCE)) == f"{REFERENCE} 1.2.3, 4"


def test_no_engine_compiles_here_what_the_device_builds() -> None:
    assert build_versions(JETSON) == {}
    here = dataclasses.replace(JETSON, backend=REFERENCE, engine=dataclasses.replace(JETSON.engine, build_on="host"))
    assert build_versions(here) == get_backend(REFERENCE).versions()
