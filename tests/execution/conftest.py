"""Fixtures of the store's tests, and of those that call functions in child processes."""

from __future__ import annotations

import os
from pathlib import Path

import child_functions
import pytest
from child_calls import OPTIONS, call

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


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


@pytest.fixture(params=["started", "forked"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Let ``call`` start processes, or fork them."""
    way: str = request.param
    if way == "forked":
        monkeypatch.setitem(OPTIONS, "forked", True)
        parents = {call(child_functions.parent, log=tmp_path / "begun.log") for _ in range(3)}
        assert parents - {os.getpid()}, "the second call begins the process that forks"
    return way
