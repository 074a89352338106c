"""Stages that say when they ran, for the tests of workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.errors import DataError


@dataclass(frozen=True)
class Made:
    path: Path
    number: int


def _work(number: int, seconds: float, diary: str, out: Path) -> Made:
    began = time.monotonic()
    with Path(diary).open("a") as file:
        file.write(f"begin {number} {os.getppid()} {began}\n")
    time.sleep(seconds)
    with Path(diary).open("a") as file:
        file.write(f"end {number} {os.getppid()} {time.monotonic()}\n")
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


@stage("fails")
def fails(number: int, out: Path) -> Made:
    """Raise, print or crash."""
    print(f"number {number}")
    if number == 1:
        raise DataError("sample 1 is broken", hint="look at it")
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return Made(out, number)
