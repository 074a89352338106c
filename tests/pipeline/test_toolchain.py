"""The versions that a bundle records."""

from __future__ import annotations

import importlib.metadata

import pytest

from edgepack.engines import ENGINES
from edgepack.pipeline.toolchain import tool_versions


def installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_every_engine_that_is_installed_is_among_them() -> None:
    found = tool_versions()
    assert found["numpy"] == importlib.metadata.version("numpy")
    for name, engine in ENGINES.all():
        if name in ENGINES.own:
            for distribution in engine.distributions:
                assert found.get(distribution) == installed(distribution)


def test_another_version_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.pipeline.toolchain.installed_version", {"apache-tvm": "9.9"}.get)
    assert tool_versions() == {"apache-tvm": "9.9"}
