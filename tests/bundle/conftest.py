"""Fixtures of the bundle tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_bundles import small_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    return small_bundle(tmp_path_factory.mktemp("bundle"))
