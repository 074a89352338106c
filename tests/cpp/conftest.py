"""The library, built once for all processes of a test run, and keys with a bundle that two of them signed."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from cpp_library import Library, engine_paths
from trust_cases import new_key, signed_bundle

from edgepack.cpp.library import ExportedLibrary, export_library
from edgepack.device.host import host_facts
from edgepack.trust.keys import PrivateKey


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the library for this machine, with its source."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # several processes of pytest-xdist
    out = shared / "libedgepack"
    with (shared / "libedgepack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.is_dir():
            made: ExportedLibrary = export_library(out.with_suffix(".new"), host_facts().arch, source=True)
            made.folder.rename(out)
    return out


@pytest.fixture(scope="session")
def library(exported: Path) -> Library:
    return Library(exported / "lib" / "libedgepack.so")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library find the engines of this Python."""
    for name, value in engine_paths().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateKey, ...]:
    folder = tmp_path_factory.mktemp("keys")
    return tuple(new_key(folder, name) for name in ("one", "two", "stranger"))


@pytest.fixture(scope="module")
def signed(keys: tuple[PrivateKey, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signed_bundle(tmp_path_factory.mktemp("signed"), *keys[:2])
