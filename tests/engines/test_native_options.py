"""Run options as engines take them: every setting is one that the engine has, and a new option is one entry."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from installed_engines import skip_without

from edgepack.engines import ENGINES
from edgepack.engines.native_options import NATIVE, SPACES, Native, native_settings, native_variables
from edgepack.specs.run import RunOptions

FIELDS = {field.name for field in dataclasses.fields(RunOptions)}


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    skip_without(request.param)
    return str(request.param)


def taken(engine: str, options: RunOptions) -> dict[str, Any]:
    """What an engine itself says of its settings when a model is loaded with ``options``."""
    if engine == "onnxruntime":
        from edgepack.engines.onnxruntime.engine import session_options

        session = session_options(options)
        names = [native.setting for by in NATIVE.values() if (native := by.get(engine)) and not native.variable]
        return {name: _entry(session, name) if "." in name else getattr(session, name) for name in names}
    import openvino

    from edgepack.engines.openvino.engine import device_settings

    core = openvino.Core()
    core.set_property("CPU", device_settings(core, "fp32", "CPU", options))
    names = [native.setting for by in NATIVE.values() if (native := by.get(engine)) and not native.variable]
    return {name: core.get_property("CPU", name) for name in names}


def _entry(session: Any, name: str) -> str:
    try:
        return str(session.get_session_config_entry(name))
    except RuntimeError:
        return ""


def test_options_are_fields_and_engines_are_known() -> None:
    assert set(NATIVE) <= FIELDS
    assert {engine for by_engine in NATIVE.values() for engine in by_engine} | set(SPACES) <= set(ENGINES.own)
    tried = {name for space in SPACES.values() for name, _ in (*space.common, *space.latency, *space.throughput)}
    assert tried <= FIELDS


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_record_of_an_engine_has_what_is_tried(name: str) -> None:
    assert ENGINES.get(name).run_options is SPACES[name]


def test_an_engine_takes_what_is_asked(engine: str) -> None:
    options = RunOptions(
        threads=2, hint="throughput", streams=2, pinning=False, spinning=False, optimization="basic", arena=False
    )
    found = {name: str(value).rpartition(".")[2].upper() for name, value in taken(engine, options).items()}
    expected = {
        "onnxruntime": {
            "intra_op_num_threads": "2",
            "session.intra_op.allow_spinning": "0",
            "graph_optimization_level": "ORT_ENABLE_BASIC",
            "enable_cpu_mem_arena": "FALSE",
        },
        "openvino": {
            "INFERENCE_NUM_THREADS": "2",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": "2",
            "ENABLE_CPU_PINNING": "FALSE",
        },
    }
    assert found == expected[engine]


def test_what_is_not_asked_is_left_to_the_engine_or_is_a_default_of_ours() -> None:
    assert dict(native_settings("onnxruntime", RunOptions())) == {}
    assert dict(native_settings("openvino", RunOptions())) == {"PERFORMANCE_HINT": "LATENCY"}
    assert dict(native_settings("tvm", RunOptions())) == {}
    assert native_variables("tvm", RunOptions()) == {"TVM_BIND_THREADS": "0", "TVM_THREAD_POOL_SPIN_COUNT": "2000"}
    assert native_variables("openvino", RunOptions()) == {}
    assert dict(native_settings("tensorrt", RunOptions(threads=2))) == {}


def test_another_device_does_not_take_what_is_for_cpus() -> None:
    options = RunOptions(threads=2, pinning=True, streams=1)
    assert dict(native_settings("openvino", options, "GPU")) == {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}


def test_tiles_are_kept_from_an_engine_by_a_variable_of_the_process() -> None:
    options = RunOptions(amx=False)
    assert native_variables("openvino", options) == {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}
    assert native_variables("openvino", RunOptions(amx=True)) == {}
    assert native_variables("openvino", options, "GPU") == {}
    assert dict(native_settings("openvino", options)) == {"PERFORMANCE_HINT": "LATENCY"}


@dataclasses.dataclass(frozen=True)
class More(RunOptions):
    """The first of two places that a new option of several engines touches: its field. The second is its entry."""

    hyper: bool | None = None


@pytest.fixture
def new_option() -> Iterator[None]:
    NATIVE["hyper"] = {
        "onnxruntime": Native("session.set_denormal_as_zero", {True: "1", False: "0"}),
        "openvino": Native("ENABLE_HYPER_THREADING", device="CPU"),
    }
    yield
    del NATIVE["hyper"]


@pytest.mark.usefixtures("new_option")
def test_a_new_option_of_several_engines_is_a_field_and_an_entry(engine: str) -> None:
    setting = NATIVE["hyper"][engine].setting
    assert str(taken(engine, More(hyper=True))[setting]) in ("1", "True")
    assert str(taken(engine, More(hyper=False))[setting]) in ("0", "False")
