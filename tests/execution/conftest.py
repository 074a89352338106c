"""Fixtures of the store's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.base import files
from edgepack.execution import digests
from edgepack.execution.store import Store


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests are kept at once, as if every file were old."""
    monkeypatch.setattr(digests, "_RACY_NS", -1)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    read: list[Path] = []

    def sha256_file(path: Path) -> str:
        read.append(path)
        return files.sha256_file(path)

    monkeypatch.setattr(digests, "sha256_file", sha256_file)
    return read
