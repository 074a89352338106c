"""Skips what needs an engine that is not installed, with the reason."""

from __future__ import annotations

import pytest

from edgepack.engines import get_backend
from edgepack.errors import ToolchainError


def skip_without(engine: str) -> None:
    """Skip the test where an engine cannot be used here, with what it says."""
    try:
        get_backend(engine).versions()
    except ToolchainError as error:
        pytest.skip(f"{error.message}: {error.hint}")
