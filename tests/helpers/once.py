"""Makes something once for a whole session, also where pytest-xdist runs it in several processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path


def made_once(base: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder ``name`` that ``make`` filled, of this session's processes only the first one.

    ``base`` is the session's own folder for temporary files; with pytest-xdist the processes' folders are side by side.
    A process that comes while another one makes it waits. What fails is tried again by the next one.
    """
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    done = folder / ".made"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder
