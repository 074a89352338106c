"""A registry of the tests' own, whose answers may be made faulty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_server import Faulty
from small_bundles import small_bundle

from edgepack.registry.layout import Layout
from edgepack.registry.reference import Folder
from edgepack.registry.transfer import push


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A server on loopback with one bundle; caches and credentials are the test's, and no proxy is set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr("edgepack.registry.client._speaks_tls", lambda _: False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    push(small_bundle(tmp_path, 300), Folder(tmp_path / "usb"))
    layout = Layout(tmp_path / "usb")
    blobs = [path.read_bytes() for path in (tmp_path / "usb" / "blobs" / "sha256").iterdir()]
    server = Faulty(layout.read(layout.find("latest")), blobs)
    yield server
    server.close()
