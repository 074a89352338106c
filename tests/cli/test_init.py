"""The settings file that 'init' writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


def test_init_writes_a_file_that_build_reads(edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = edgepack("init", "--yes", "--model", "net.py:make", "--data", "pictures", "--recipe", "imagenet")
    assert ran.code == 0
    assert "edgepack build net.py:make --target host-onnxruntime" in ran.err
    from edgepack.pipeline.settings import read_settings

    assert read_settings(Path("edgepack.toml")).model == "net.py:make"
    again = edgepack("init", "--yes", "--model", "other.py:make")
    assert again.code == 2
    assert "--force" in again.err
