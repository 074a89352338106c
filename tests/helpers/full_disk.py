"""A full disk, simulated by RLIMIT_FSIZE: no file of a process may grow over a size."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any


def full_disk(most_bytes: int, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what ``subprocess.run`` is to be given for a process and its children.

    They write no bytecode: Python 3.11 takes a file that the limit cut off for whole, and every later run fails.
    """
    return {
        "env": {**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    }
