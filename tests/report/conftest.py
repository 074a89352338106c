"""Golden files of what a report must look like; ``pytest tests/report --update-golden`` rewrites them."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
from browser import Browser

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


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """Return a browser for all tests of pages; without Chromium the tests that ask for it must be skipped."""
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a page of every made-up build."""
    from edgepack.report.html.page import write_report

    folder = tmp_path_factory.mktemp("pages")
    for name in ("labelled_build", "unlabelled_build", "full_build", "many"):
        write_report(*getattr(made_up, name)(), folder / f"{name}.html")
    write_report(*made_up.many(devices=2, models=3), folder / "models.html")
    write_report((), made_up.unmeasured_build()[1], folder / "unmeasured.html")
    write_report(*made_up.labelled_build(), folder / "changed.html", made_up.full_build())
    return folder
