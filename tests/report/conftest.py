"""Golden files of what a report must look like; ``pytest tests/report --update-golden`` rewrites them."""

from __future__ import annotations

from pathlib import Path

import pytest

_GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option; it is known when this folder is named on the command line."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files of the report tests")


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compare a text with the golden file of that name."""

    def compare(name: str, text: str) -> None:
        path = _GOLDEN / name
        if request.config.getoption("--update-golden", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"differs from {path.name}: look at it, then --update-golden"

    return compare
