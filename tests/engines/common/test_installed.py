"""Engines that are there, missing, or broken."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.engines.common.installed import engine_version, import_engine
from edgepack.errors import ToolchainError


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("made_up_engine", None)


def test_the_version_is_that_of_the_distribution_and_nothing_is_imported(packages: Path) -> None:
    (packages / "made_up_engine.py").write_text("raise RuntimeError('imported')")
    installed = packages / "other_name-1.2.3.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: other-name\nVersion: 1.2.3\n")
    assert engine_version("Engine", "extra", "made_up_engine", "not-there", "other-name") == "1.2.3"
    assert "made_up_engine" not in sys.modules


@pytest.mark.parametrize(("text", "version"), [("__version__ = '7.8'", "7.8"), ("", "unknown")])
def test_without_a_distribution_the_module_knows(packages: Path, text: str, version: str) -> None:
    (packages / "made_up_engine.py").write_text(text)
    assert engine_version("Engine", "extra", "made_up_engine", "not-there") == version


@pytest.mark.parametrize("module", ["no_such_engine", "no_such_package.part"])
def test_a_missing_engine_comes_with_the_command(module: str) -> None:
    for call in (lambda: engine_version("Engine", "extra", module), lambda: import_engine("Engine", "extra", module)):
        with pytest.raises(ToolchainError) as caught:
            call()
        assert caught.value.hint is not None
        assert "'edgepack[extra]'" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import not_installed_at_all", "ModuleNotFoundError: No module named 'not_installed_at_all'"),
        ("raise OSError('libfoo.so.1:\\n cannot open')", "OSError: libfoo.so.1: cannot open"),
        ("raise SystemError('bad')", "SystemError: bad"),
    ],
)
def test_a_broken_engine_is_not_called_missing(packages: Path, text: str, words: str) -> None:
    (packages / "made_up_engine.py").write_text(text)
    with pytest.raises(ToolchainError) as caught:
        import_engine("Engine", "extra", "made_up_engine")
    assert caught.value.message == f"Engine is installed but does not load: {words}"
    assert "--force-reinstall" in str(caught.value.hint)


def test_a_real_engine_is_found() -> None:
    found = engine_version("ONNX Runtime", "onnxruntime", "onnxruntime", "onnxruntime")
    assert found == importlib.metadata.version("onnxruntime")
    assert import_engine("ONNX Runtime", "onnxruntime", "onnxruntime").__version__ == found
