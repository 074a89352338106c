"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the store and the unpacked bundles of the tests out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGEPACK_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data beside the checkout; tests that need it are skipped where it is not."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "assets"
    if not folder.is_dir():
        pytest.skip("no real models and data beside the checkout (../shared/assets)")
    return folder
