"""Fixtures of the tests of serving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack into the test's folder, never into the user's cache."""
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
