"""Resident memory of this process, as Linux counts it."""

from __future__ import annotations

import re
from pathlib import Path

_SELF = Path("/proc/self")
_RESET_PEAK = "5"  # Linux, Documentation/filesystems/proc.rst, clear_refs


def resident_bytes(process: Path = _SELF) -> int | None:
    """Return ``VmRSS``; None where there is no /proc."""
    return _status_bytes(process, "VmRSS")


def peak_bytes(process: Path = _SELF) -> int | None:
    """Return ``VmHWM``, the highest ``VmRSS`` since the start or the last reset; None where there is no /proc."""
    return _status_bytes(process, "VmHWM")


def reset_peak(process: Path = _SELF) -> bool:
    """Set the peak back to the present size; False where the kernel does not allow it."""
    try:
        (process / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _status_bytes(process: Path, key: str) -> int | None:
    try:
        text = (process / "status").read_text()
    except OSError:
        return None
    match = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None
