"""Stages that say when they ran, for the tests of workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.base.stage import stage
from edgepack.errors import DataError, StorageError
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions


@dataclass(frozen=True)
class Made:
    path: Path
    number: int


def worker() -> int:
    """Return the number of the worker that runs this: a stage's process is its child, or one that its own forks."""
    parent = os.getppid()
    if b"edgepack.execution.forks" not in Path(f"/proc/{parent}/cmdline").read_bytes():
        return parent
    return int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])


def _work(number: int, seconds: float, diary: str, out: Path) -> Made:
    began = time.monotonic()
    with Path(diary).open("a") as file:
        file.write(f"begin {number} {worker()} {began}\n")
    time.sleep(seconds)
    with Path(diary).open("a") as file:
        file.write(f"end {number} {worker()} {time.monotonic()}\n")
    (out / "made.txt").write_text(f"number {number}\n")
    return Made(out / "made.txt", number)


@stage("work")
def work(number: int, seconds: float, diary: str, out: Path) -> Made:
    """Write a file, and into ``diary`` who ran it and when."""
    return _work(number, seconds, diary, out)


@stage("timing", host="speed")
def timing(number: int, seconds: float, diary: str, out: Path) -> Made:
    """The same, as a stage that measures time."""
    return _work(number, seconds, diary, out)


@stage("meets")
def meets(number: int, place: str, out: Path) -> Made:
    """Wait in the folder ``place`` for another one of these."""
    (Path(place) / str(number)).touch()
    until = time.monotonic() + 50.0
    while len(list(Path(place).iterdir())) < 2:
        if time.monotonic() > until:
            raise DataError("nobody came", hint="run two at once")
        time.sleep(0.01)
    return Made(out, number)


@stage("looks")
def looks(number: int, out: Path) -> Made:
    """Write whether this process was forked, and the names of the files that it has open."""
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    opened = [str(link.resolve()) for link in Path("/proc/self/fd").iterdir()]
    forked = "forked" if b"edgepack.execution.forks" in parent else "begun"
    (out / "made.txt").write_text("\n".join([forked, *opened]))
    return Made(out / "made.txt", number)


@stage("fails")
def fails(number: int, out: Path) -> Made:
    """Raise, print or crash."""
    print(f"number {number}")
    if number == 1:
        raise DataError("sample 1 is broken", hint="look at it")
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return Made(out, number)


@stage("sees")
def sees(model: CompiledModel, options: RunOptions, seconds: float, out: Path) -> Made:
    """Write which GPU CUDA would see."""
    (out / "made.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    time.sleep(seconds)
    return Made(out / "made.txt", 0)


@stage("fills")
def fills(number: int, diary: str, out: Path) -> Made:
    """Fail as on a full disk on the worker that runs such a stage first, which leaves half a file: a made-up one."""
    first = Path(diary)
    if not first.exists():
        first.write_text(str(worker()))
    (out / f"half-{worker()}").write_text("half")
    if first.read_text() == str(worker()):
        raise StorageError("no space left while writing half")
    (out / f"half-{worker()}").unlink()
    return Made(out, number)


@dataclass
class _Double:
    before: Callable[[int], None] = lambda _: None
    began: list[str] = field(default_factory=list)


DOUBLE = _Double()


def stand_in(task: dict[str, Any]) -> dict[str, Any]:
    """Take the place of ``run_task`` in a worker of this process: call ``DOUBLE.before`` with how many have begun."""
    DOUBLE.began.append(task["out"])
    DOUBLE.before(len(DOUBLE.began))
    number = task["arguments"][0]
    return {"result": {"path": "x", "number": number if isinstance(number, int) else 0}, "said": []}
