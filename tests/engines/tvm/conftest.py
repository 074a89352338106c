"""Fixtures for the tests around TVM; skipped with the reason where its packages are not installed."""

from __future__ import annotations

import pytest
from installed_engines import skip_without


@pytest.fixture(autouse=True)
def needs_tvm() -> None:
    skip_without("tvm")
