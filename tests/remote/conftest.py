"""A real OpenSSH server for the tests of other machines; without one they are skipped, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_server import SSHD, Server, serving


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if SSHD is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    with serving(tmp_path_factory.mktemp("sshd") / "server") as server:
        yield server


@pytest.fixture
def board(sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, with this machine's ssh knowing it as ``board``."""
    monkeypatch.setenv("EDGEPACK_SSH", sshd.ssh)
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    return sshd
