"""Fixtures of the runtime tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from small_bundles import small_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack into the test's folder, never into the user's cache."""
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    return small_bundle(tmp_path_factory.mktemp("bundle"))
