"""The parent's side of ``worker.py``: starts measuring processes, asks them, and ends them."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

from edgepack import errors
from edgepack.base import documents
from edgepack.base.resources import package_folder
from edgepack.benchmark.measure.worker import ANSWERS, REQUESTS, Block, Closed, Closing, Measured, Open, Opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

LOAD_LIMIT_S = 600.0
_LOG_TAIL_CHARACTERS = 2000
_MODULE = "edgepack.benchmark.measure.worker"


class Asked(Protocol):
    """What compares and interleaves talk to: a worker process, or a simulated one in tests."""

    @overload
    def ask(self, request: Open) -> Opened: ...
    @overload
    def ask(self, request: Block) -> Measured: ...
    @overload
    def ask(self, request: Closing) -> Closed: ...

    def close(self) -> None:
        """End the process."""
        ...


class Worker:
    """One measuring process. Its output goes to the file ``log``. Use it in a ``with`` block."""

    def __init__(self, log: Path, module: str = _MODULE) -> None:
        reading, writing = os.pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
            )
        os.close(writing)
        self._reading, self._log, self._buffer = reading, log, b""

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def ask(self, request: Open) -> Opened: ...
    @overload
    def ask(self, request: Block) -> Measured: ...
    @overload
    def ask(self, request: Closing) -> Closed: ...

    def ask(self, request: Open | Block | Closing) -> Any:
        """Send a request and return its answer.

        Raises the ``EdgepackError`` that the worker met; ``ChildError`` when it crashed or did not answer in time.
        """
        kind = next(name for name, known in REQUESTS.items() if isinstance(request, known))
        limit_s = request.maximum_ns / 1e9 + 60 if isinstance(request, Block) else LOAD_LIMIT_S
        line = json.dumps({"kind": kind, "request": documents.encode(request)}).encode() + b"\n"
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; the missing answer says so below
            self._process.stdin.write(line)
            self._process.stdin.flush()
        answer = self._read_line(time.monotonic() + limit_s, kind)
        if "error" in answer:
            raise _rebuild(answer["error"], self._log)
        return documents.decode(ANSWERS[kind], answer["answer"], kind)

    def close(self) -> None:
        """End the process and wait for it."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1

    def _read_line(self, deadline: float, kind: str) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self._kill()
                    raise self._child_error(f"the measuring process did not answer {kind!r} in time and was stopped")
                piece = os.read(self._reading, 1 << 20)
                if not piece:
                    self._process.wait()
                    raise self._child_error(f"the measuring process crashed ({_how(self._process.returncode)})")
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def _child_error(self, message: str) -> errors.ChildError:
        log = self._log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]
        words = log.strip().splitlines()
        hint = f"its last output: {words[-1][:200]}" if words else "it printed nothing; try --threads 1"
        return errors.ChildError(message, log=log, hint=hint)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def close_all(workers: Sequence[Asked]) -> None:
    """End several processes; each is ended even if another resists."""
    with contextlib.ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.close)


def _import_path() -> list[str]:
    """Let the worker import this very edgepack, also when it is not installed."""
    root = str(package_folder().parent)
    return [root, *(p for p in [os.environ.get("PYTHONPATH")] if p)]


def _rebuild(error: dict[str, str], log: Path) -> errors.EdgepackError:
    kind = getattr(errors, error["kind"], None)
    if isinstance(kind, type) and issubclass(kind, errors.EdgepackError):
        return kind(error["message"], hint=error["hint"])
    words = log.read_text(errors="replace").strip().splitlines()  # the log goes with its scratch folder
    last = f"its last output: {words[-1][:200]}" if words else "it printed nothing"
    return errors.EdgepackError(f"{error['kind']}: {error['message']}", hint=last)


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
