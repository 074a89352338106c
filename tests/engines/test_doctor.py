"""The doctor: what works, what is missing, and installations that are broken in every way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from edgepack.base import documents
from edgepack.engines import ENGINES, doctor, get_backend
from edgepack.engines.doctor import EngineReport, diagnose
from edgepack.errors import ToolchainError
from edgepack.specs.target import Host

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reports() -> dict[str, EngineReport]:
    return {report.name: report for report in diagnose()}


def install(folder: Path, name: str, code: str, version: str = "9.9") -> None:
    """Put a package into ``folder`` that looks installed."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def examine(name: str, host: Host | None = None) -> EngineReport:
    """Return the report of one tool alone."""
    tool = next(tool for tool in doctor.tools() if tool.name == name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "tools", lambda: (tool,))
        if host:
            patch.setattr(doctor, "host_facts", lambda: host)
        return diagnose()[0]


# --- this machine -----------------------------------------------------------------------------------------------------


def test_every_engine_and_tool_is_reported_once(reports: dict[str, EngineReport]) -> None:
    assert {"onnxruntime", "openvino", "tensorrt", "tvm", "torch", "pillow", "onnx", "scipy"} <= set(reports)
    assert len(reports) == len(doctor.tools())
    assert set(ENGINES.own) <= set(reports)


@pytest.mark.parametrize("engine", sorted(set(ENGINES.own) - {"tensorrt"}))
def test_an_engine_that_is_here_works(engine: str, reports: dict[str, EngineReport]) -> None:
    try:
        version = next(iter(get_backend(engine).versions().values()))
    except ToolchainError as error:
        pytest.skip(error.message)
    report = reports[engine]
    assert (report.version, report.works, report.problem, report.install) == (version, True, None, None)
    assert "CPU" in report.devices
    assert {"fp32", "int8"} <= set(report.precisions)
    assert re.search(r"CPU in fp32.*int8; (this CPU has|int8 sums)", report.summary)


@pytest.mark.skipif(doctor.host_facts().gpu is not None, reason="there is an NVIDIA GPU here")
def test_tensorrt_is_said_to_build_but_not_to_run_without_a_gpu(reports: dict[str, EngineReport]) -> None:
    report = reports["tensorrt"]
    assert not report.works
    assert report.summary.startswith("builds bundles for Jetson; cannot run them here (")
    assert any(word in (report.install or "") for word in ("JetPack", "cuda-runtime", "NVIDIA's driver"))


def test_every_report_is_a_document(reports: dict[str, EngineReport]) -> None:
    for report in reports.values():
        assert documents.from_json(EngineReport, documents.to_json(report), "test") == report
        assert report.summary
        assert "\n" not in report.summary


def test_what_does_not_work_says_what_to_do(reports: dict[str, EngineReport]) -> None:
    for report in reports.values():
        if not report.works and report.name not in ("tensorrt", "tvm"):
            assert report.install is not None
            assert re.fullmatch(r"pip install (--force-reinstall )?'edgepack\[\w+\]'", report.install)
            assert report.install in report.summary


# --- other machines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "flags", "words"),
    [
        ("x86_64", "avx2", "saturate at 16 bits"),
        ("x86_64", "avx2 avx_vnni", "this CPU has int8 instructions (avx_vnni)"),
        ("aarch64", "asimd asimddp", "this CPU has int8 instructions (asimddp)"),
        ("aarch64", "asimd", "this CPU has no int8 instructions"),
    ],
)
def test_what_int8_is_worth_follows_the_instruction_set(arch: str, flags: str, words: str) -> None:
    host = Host("c", arch, tuple(flags.split()), 4, 1 << 30, "linux", "6", "3.11")
    assert words in doctor._int8(host)


def test_what_is_not_installed_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    report = examine("openvino")
    assert (report.version, report.works) == (None, False)
    assert report.install == "pip install 'edgepack[openvino]'"
    assert report.summary == "not installed: pip install 'edgepack[openvino]'"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        pytest.param("raise ImportError('libfoo.so.3: cannot open')", "libfoo.so.3: cannot open", id="library-missing"),
        pytest.param("raise OSError(8, 'Exec format error')", "Exec format error", id="wrong-architecture"),
        pytest.param("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV", id="segfault"),
        pytest.param("import os; os._exit(3)", "exit status 3", id="exit"),
        pytest.param("raise SystemExit(3)", "SystemExit: 3", id="system-exit"),
        pytest.param("def x(:", "SyntaxError", id="syntax"),
        pytest.param("", "AttributeError", id="empty"),
    ],
)
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_broken_installation_is_reported(
    name: str, code: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, name, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    report = examine(name)
    assert (report.version, report.works) == ("9.9", False)
    assert problem in (report.problem or "")
    assert report.install == f"pip install --force-reinstall 'edgepack[{name}]'"
    assert "\n" not in report.summary


def test_an_installation_that_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime", "import time; time.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor, "_PROBE_LIMIT_S", 2.0)
    report = examine("onnxruntime")
    assert not report.works
    assert "took longer than 2 s" in (report.problem or "")


def test_an_engine_that_computes_nonsense_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
class InferenceSession:
    def __init__(self, *a, **k): pass
    def run(self, names, feeds): return [feeds["x"]]
"""
    install(tmp_path, "onnxruntime", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "computes max(0, [-1, 2])" in (examine("onnxruntime").problem or "")


def test_a_device_with_a_bad_driver_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
class Core:
    available_devices = ["CPU", "GPU"]
    def read_model(self, *a): return None
    def get_property(self, device, name): return ["FP32", "INT8"]
    def compile_model(self, model, device, settings):
        if device == "GPU":
            raise RuntimeError("clGetPlatformIDs\\n error -1001")
        return lambda feeds: [[0.0, 2.0]]
"""
    install(tmp_path, "openvino", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    report = examine("openvino")
    assert (report.works, report.devices, report.precisions) == (True, ("CPU",), ("fp32", "int8"))
    assert "GPU does not work (clGetPlatformIDs error -1001)" in report.summary


@pytest.mark.skipif(doctor.host_facts().gpu is not None, reason="there is an NVIDIA GPU here")
def test_an_installed_tensorrt_without_a_gpu_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a driver TensorRT 8.6 segfaults; this stand-in would, too."""
    install(tmp_path, "tensorrt", "import ctypes; ctypes.string_at(0)", "10.3")
    monkeypatch.syspath_prepend(str(tmp_path))
    report = examine("tensorrt")
    assert (report.version, report.works) == ("10.3", False)
    assert "SIGSEGV" not in report.summary
    assert report.summary.startswith("builds bundles for Jetson; cannot run them here (")
