"""Fixtures that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data beside the checkout; tests that need it are skipped where it is not."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "assets"
    if not folder.is_dir():
        pytest.skip("no real models and data beside the checkout (../shared/assets)")
    return folder
