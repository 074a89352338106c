"""Functions that the tests of ``children.py`` run in child processes: good ones, and ones that go wrong."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgepack.errors import ChildError, CompileError, DataError, StorageError
from edgepack.execution import child as children
from edgepack.specs.types import Precision, Progress, no_progress


@dataclass(frozen=True)
class Item:
    """A value of every kind that a document can hold."""

    name: str
    path: Path
    number: int = 0
    share: float = 0.0
    flag: bool = False
    nothing: str | None = None
    kind: Literal["a", "b"] = "a"
    parts: tuple[int, ...] = ()
    table: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def prints(text: str) -> str:
    print(text)
    return text


def echo(item: Item) -> Item:
    return item


def add(first: int, second: int = 10) -> int:
    return first + second


def precision_name(precision: Precision) -> str:
    return f"{precision}!"


def nothing(first: int) -> None:
    del first


def process_facts() -> tuple[str, ...]:
    """Return what the child's process looks like: pid, group, session, folder, first import path, isolation."""
    first = next(iter(sys.path), "")
    return (str(os.getpid()), str(os.getpgid(0)), str(os.getsid(0)), str(Path.cwd()), first, str(sys.flags.safe_path))


def parent() -> int:
    return os.getppid()


def loaded(module: str) -> bool:
    return module in sys.modules


def folder_and_path() -> tuple[str, str]:
    return str(Path.cwd()), sys.path[0]


def drawn() -> float:
    """Return a number of numpy's global generator, which nobody seeds."""
    import numpy as np

    return float(np.random.random())


def environment(name: str) -> str:
    return os.environ.get(name, "")


def count(steps: int, progress: Progress = no_progress) -> int:
    for step in range(steps):
        progress("counting", step + 1, steps)
    return steps


def count_from_threads(steps: int, progress: Progress = no_progress) -> int:
    threads = [
        threading.Thread(target=lambda n=n: [progress("x" * 9000, n, i) for i in range(steps)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return steps


def long_text(characters: int) -> str:
    return "é" * characters


def takes_text(text: str) -> int:
    return len(text)


def print_a_lot(megabytes: int) -> int:
    for _ in range(megabytes):
        sys.stdout.write("o" * (1 << 20))
        sys.stderr.write("e" * (1 << 20))
    print("the last words")
    return megabytes


def print_bytes() -> int:
    sys.stdout.buffer.write(b"\xff\xfe broken \x80 text\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


# --- going wrong ------------------------------------------------------------------------------------------------------


def segfault() -> int:
    print("about to read address 0", flush=True)
    return ctypes.string_at(0)[0]


def end_by_signal(number: int) -> int:
    os.kill(os.getpid(), number)
    time.sleep(60)
    return 0


def end_at_once(status: int) -> int:
    print("giving up", flush=True)
    os._exit(status)


def call_exit(status: int) -> int:
    sys.exit(status)


def hang(started: Path) -> int:
    started.write_text(str(os.getpid()))
    time.sleep(600)
    return 0


def hang_deaf(started: Path) -> int:
    """Ignore every signal that can be ignored, as an engine in native code does."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return hang(started)


def hang_after_printing(text: str) -> int:
    print(text, flush=True)
    time.sleep(600)
    return 0


def recurse(depth: int) -> int:
    return recurse(depth + 1)


def raise_known(kind: str) -> int:
    if kind == "data":
        raise DataError("the samples are wrong", hint="give others")
    if kind == "child":
        raise ChildError("a grandchild died", log="its log", hint="look there")
    if kind == "default-hint":
        raise CompileError("refused")
    raise StorageError("the disk is full")


def raise_unknown(message: str) -> int:
    raise RuntimeError(message)


def raise_disk_full(path: Path) -> int:
    raise OSError(28, "No space left on device", str(path))


def raise_interrupt() -> int:
    raise KeyboardInterrupt


def returns_what_no_document_holds(kind: str) -> float:
    values = {"nan": float("nan"), "set": {1}, "bytes": b"x", "object": object()}
    return values[kind]  # type: ignore[return-value]


def returns_another_type() -> int:
    return "text"  # type: ignore[return-value]


# --- grandchildren ----------------------------------------------------------------------------------------------------


def leave_a_process(pid: Path) -> int:
    """Start a process that would live on, and return."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pid.write_text(str(process.pid))
    return process.pid


def fork_and_die(pid: Path) -> int:
    """Fork a process that keeps every descriptor open, the answer's too, and crash."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    pid.write_text(str(child))
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def call_again(log: Path) -> int:
    """Run a child of its own."""
    return children.call(add, 1, 2, limit_s=60, log=log)


def remark(count: int) -> int:
    """Log a remark and a warning."""
    logging.getLogger("edgepack.x").info("kernels: %d", count)
    logging.getLogger("edgepack.x").warning("a warning")
    return count
