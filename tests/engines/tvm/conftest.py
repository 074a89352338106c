"""Fixtures for the tests around TVM; skipped with the reason where its packages are not installed."""

from __future__ import annotations

import pytest

from edgepack.engines import get_backend
from edgepack.errors import ToolchainError


@pytest.fixture(autouse=True)
def needs_tvm() -> None:
    try:
        get_backend("tvm").versions()
    except ToolchainError as error:
        pytest.skip(f"{error.message}: {error.hint}")
