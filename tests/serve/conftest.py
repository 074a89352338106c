"""Fixtures of the tests of serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from serving import FEEDS, Server, Stub, mixing_bundle, serving
from small_bundles import onnx_outputs, small_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack into the test's folder, never into the user's cache."""
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    small_bundle(made)
    mixing_bundle(made / "other")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    bundles = (folder / "small.edgepack", folder / "other" / "mixing.edgepack", f"again={folder / 'small.edgepack'}")
    with serving(*bundles, "--max-request", "1MB") as found:
        yield found


@pytest.fixture(scope="module")
def right(folder: Path) -> Any:
    return onnx_outputs(folder / "compiled" / "model.onnx", FEEDS)["scores"]


@pytest.fixture
def rpc(server: Server) -> Iterator[Stub]:
    stub = Stub(server)
    yield stub
    stub.channel.close()
