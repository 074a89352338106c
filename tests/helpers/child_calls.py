"""Calls of functions in child processes, as all tests of ``child.py`` make them, and how to wait for what they do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgepack.execution import child as children

OPTIONS: dict[str, Any] = {}  # what every call is given, unless it says otherwise


def call(function: Any, *arguments: Any, log: Path, limit_s: float = 60, **options: Any) -> Any:
    return children.call(function, *arguments, limit_s=limit_s, log=log, **{**OPTIONS, **options})


def is_alive(pid: int) -> bool:
    """Say whether a process runs: one that was killed and not yet collected by init does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def wait_until(condition: Any) -> None:
    """Wait for something that must happen; a minute is never taken when it does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
