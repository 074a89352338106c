"""Runs a program again and again in processes forked from one that has imported everything, under strace where asked.

strace attaches to a child that has stopped itself, so that only what the program does is seen, and no run has to wait
for Python to start: a test can kill at every system call of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

STRACE = shutil.which("strace")
_SERVER = """
import json, os, signal, sys, traceback

for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if asked["stop"]:
                os.kill(os.getpid(), signal.SIGSTOP)
            run(*asked["words"])
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
_CALL = re.compile(r"^(\w+)\((.*)")
_UNTOLD = {"exit_group", "brk", "mmap", "munmap", "futex", "getrandom", "rt_sigaction", "restart_syscall", "kill"}
_PATIENCE_S = 120


@dataclass(frozen=True)
class Done:
    """How a run ended, and what it has said on stderr."""

    returncode: int
    stderr: str


class Forked:
    """A process that has run ``code``, which defines ``run(*words)``; its children call that, one at a time."""

    def __init__(self, folder: Path, code: str, variables: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._said = folder, folder / "stderr"
        program = folder / "program.py"
        program.write_text(code + _SERVER)
        self._errors = self._said.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1,
            env={**os.environ, "PYTHONHASHSEED": "0", **(variables or {})},
        )  # fmt: skip

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE_S)
        self._process.stdout.close()
        self._errors.close()

    def run(self, *words: object) -> Done:
        """Run to the end."""
        before = self._said.stat().st_size
        self._ask(words, stop=False)
        return self._done(before)

    def killed_at(self, name: str, number: int, *words: object) -> Done:
        """Run until the given call of its kind begins, and kill there."""
        return self._traced(words, "-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}")

    def calls(self, root: Path, *words: object) -> list[tuple[str, int]]:
        """Return the system calls of a whole run since it first named ``root``, each with its number among its like."""
        log = self._folder / "strace.log"
        done = self._traced(words, "-s", "300", log=log)
        assert done.returncode == 0, done.stderr
        seen: dict[str, int] = {}
        found, begun = [], False
        for line in log.read_text(errors="replace").splitlines():
            if match := _CALL.match(line):
                name, arguments = match.groups()
                seen[name] = seen.get(name, 0) + 1
                begun = begun or (name != "readlink" and f'"{root}' in arguments)
                if begun and name not in _UNTOLD:
                    found.append((name, seen[name]))
        return found

    def _traced(self, words: Sequence[object], *options: str, log: Path | None = None) -> Done:
        assert STRACE is not None
        before = self._said.stat().st_size
        pid = self._ask(words, stop=True)
        until = time.monotonic() + _PATIENCE_S
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until, "the child did not stop"
            time.sleep(0.001)
        command = [STRACE, "-p", str(pid), "-o", str(log or "/dev/null"), *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            assert "attached" in said, said + strace.stderr.read()
            os.kill(pid, signal.SIGCONT)
            return self._done(before)

    def _ask(self, words: Sequence[object], *, stop: bool) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"stop": stop, "words": [str(word) for word in words]}) + "\n")
        return int(self._line())

    def _done(self, before: int) -> Done:
        code = int(self._line())
        return Done(code, self._said.read_bytes()[before:].decode(errors="replace"))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._said.read_text()
        return line
