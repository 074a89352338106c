"""What processes that measure take of the processors, and how long they wait for one."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """CPU time of processes, all their threads, and the time in which those were ready and had no CPU; in seconds."""

    cpu_s: float = 0.0
    waited_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu_s + other.cpu_s, self.waited_s + other.waited_s)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.cpu_s - other.cpu_s, self.waited_s - other.waited_s)


def usage(root: Path = Path("/")) -> Usage:
    """Return what this process has taken so far.

    Waiting is of the threads that live (Linux, Documentation/scheduler/sched-stats.rst), 0 where no system tells it.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime + used.ru_stime, _waited_ns(root / "proc/self/task") / 1e9)


def _waited_ns(threads: Path) -> int:
    waited = 0
    for thread in threads.glob("*/schedstat"):
        try:
            waited += int(thread.read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it ended, or this kernel does not count
    return waited
