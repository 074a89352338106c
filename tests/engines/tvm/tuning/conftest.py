"""Fixtures for the tests of tuning; those that need TVM are skipped with the reason where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from installed_engines import skip_without


@pytest.fixture
def needs_tvm() -> None:
    skip_without("tvm")


@pytest.fixture(autouse=True)
def tuning_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep records out of the user's own cache."""
    folder = tmp_path / "tuning"
    monkeypatch.setenv("EDGEPACK_TUNING", str(folder))
    return folder
