"""The table of engines."""

from __future__ import annotations

import pytest

from edgepack.engines import (
    ENGINES,
    REFERENCE,
    Engine,
    device_builder,
    engine_of,
    get_backend,
    is_built_on_device,
    kernel_tuner,
    part_of,
)
from edgepack.errors import ConfigError, ToolchainError


def test_an_unknown_backend_is_answered_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'onnxrutime'") as caught:
        get_backend("onnxrutime")
    assert caught.value.hint == "did you mean 'onnxruntime'?"


def test_the_reference_is_an_engine_that_needs_no_device() -> None:
    engine = ENGINES.get(REFERENCE)
    assert engine.on_cpu
    assert not engine.built_on_device
    assert not is_built_on_device(REFERENCE)
    assert device_builder(REFERENCE) is None


@pytest.mark.parametrize("name", list(ENGINES.own))
def test_every_reference_of_a_record_can_be_imported(name: str) -> None:
    engine = ENGINES.get(name)
    backend = get_backend(name)
    for function in ("versions", "check", "compile_model", "load_model"):
        assert callable(getattr(backend, function))
    for field in ("oldest", "companions", "functions", "kernels", "proxy", "peaks", "layers", "probe", "host",
                  "precisions", "check_profile", "has_device"):  # fmt: skip
        if reference := getattr(engine, field):
            assert part_of(name, reference) is not None, field


def test_an_engine_that_is_not_known_is_no_engine() -> None:
    assert engine_of("nothing") is None
    assert not is_built_on_device("nothing")


def test_only_engines_whose_kernels_are_ours_have_a_tuner() -> None:
    tuners = {name for name in ENGINES.own if kernel_tuner(name) is not None}
    assert tuners == {name for name in ENGINES.own if ENGINES.get(name).kernels}
    assert tuners
    for name in tuners:
        for function in ("can_measure_here", "tune_model", "tuned_digest"):
            assert callable(getattr(kernel_tuner(name), function))


@pytest.mark.parametrize(
    ("changes", "command"),
    [({"extra": "x"}, "pip install 'edgepack[x]'"), ({"install": "apt install y"}, "apt install y"), ({}, "")],
)
def test_an_engine_is_installed_by_its_extra_or_a_command(changes: dict[str, str], command: str) -> None:
    assert Engine("Title", "module", **changes).install_command == command


def test_what_of_another_package_cannot_be_imported_names_the_engine() -> None:
    with pytest.raises(ToolchainError, match=r"no_such_module of the engine 'made-up' cannot be imported") as caught:
        part_of("made-up", "no_such_module")
    assert "'made-up'" in str(caught.value.hint)
    with pytest.raises(ImportError):
        part_of(REFERENCE, "no_such_module")  # a defect of ours is not hidden
