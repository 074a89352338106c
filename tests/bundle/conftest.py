"""Fixtures of the bundle tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from small_bundles import small_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    return small_bundle(tmp_path_factory.mktemp("bundle"))
