"""Whether this process may use AMX's tile registers, as /proc/cpuinfo and the machine say."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgepack.device import amx, host


def test_tiles_are_there_only_where_the_processor_has_them() -> None:
    if platform.machine() == "x86_64":
        has = " amx_tile " in Path("/proc/cpuinfo").read_text()
        assert not amx.is_supported() or has
    else:
        assert not amx.is_supported()
    assert amx.request() == amx.is_supported()


def test_another_processor_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not amx.is_supported()
    assert not amx.request()


def test_a_linux_that_does_not_give_tiles_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before 5.16 list the flags and end a process that uses them."""
    here = host.host_facts()
    if "amx_tile" not in here.isa:
        pytest.skip("this host, or its Linux, has no AMX")
    monkeypatch.setattr(amx, "is_supported", lambda: False)
    assert set(here.isa) - set(host.host_facts().isa) == {flag for flag in here.isa if flag.startswith("amx_")}
