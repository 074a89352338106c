"""How file systems of shared stores are opened: packages that miss are named, and what fails is asked once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import gs_server
import pytest
import s3_server
from fault_proxy import Faults, proxy

from edgepack.errors import ToolchainError
from edgepack.execution.shared.address import PROTOCOLS, Address
from edgepack.execution.shared.files import open_files


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("file", "fsspec")])
def test_a_missing_package_is_named(protocol: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ToolchainError, match=package) as caught:
        open_files(Address(protocol, "bucket/x"))
    assert "pip install 'edgepack[" in caught.value.hint
    assert protocol in PROTOCOLS


@pytest.fixture(params=[s3_server, gs_server])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Faults]]:
    """A protocol, and a proxy that answers each request with "slow down", and asks no server for it."""
    pytest.importorskip("gcsfs")
    faults = Faults(error=lambda _m, _p: True)
    with proxy(1, faults) as port:
        for name, value in request.param.use(port).items():
            monkeypatch.setenv(name, value)
        yield request.param.PROTOCOL, faults


def test_what_fails_is_asked_once_and_said_at_once(
    failing: tuple[str, Faults], caplog: pytest.LogCaptureFixture
) -> None:
    """gcsfs asks six times, a minute long, and says in the log of every call what kind of bucket it could not find."""
    protocol, faults = failing
    files = open_files(Address(protocol, "builds/x"))
    began = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)slow ?down|reduce your request rate"):
        files.cat_file("builds/x/y", start=0, end=10)
    assert len(faults.seen) == 1
    assert time.monotonic() - began < 20
    assert not [record for record in caplog.records if record.name.startswith("gcsfs")]
