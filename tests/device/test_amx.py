"""Tile registers: what Linux says of them is what it lets a process do."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.device import amx


def flags() -> set[str]:
    """What Linux says of the processor; empty where it is no x86."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def test_tiles_are_supported_where_linux_names_them() -> None:
    assert amx.is_supported() is ("amx_tile" in flags())


def test_a_process_gets_tiles_where_they_are_supported() -> None:
    code = "from edgepack.device import amx; print(amx.request(), amx.request())"  # in a process whose state is fresh
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(amx.is_supported())] * 2


def test_other_processors_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(amx.ctypes, "CDLL", lambda _: pytest.fail("the call is of x86-64 alone"))
    assert not amx.is_supported()
    assert not amx.request()
