"""Runs a function in a child process with a time limit, so that an engine that crashes or hangs costs one call.

The function's arguments and its return value travel as JSON documents, decoded by its type annotations. A parameter
named ``progress`` is filled by the child with one that reports to the parent.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgepack import documents, errors
from edgepack.specs import Progress, no_progress

T = TypeVar("T")

_LOG_TAIL_CHARACTERS = 2000
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def call(
    function: Callable[..., T],
    *arguments: Any,
    limit_s: float,
    log: Path,
    progress: Progress = no_progress,
    environment: Mapping[str, str] | None = None,
) -> T:
    """Return ``function(*arguments)``, run in a fresh Python process whose output goes to the file ``log``.

    Raises the ``EdgepackError`` that the function raised; ``ChildError`` when the process crashed or took longer than
    ``limit_s`` seconds; ``EdgepackError`` with the last words of the log for any other exception.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    request = json.dumps({"function": name, "path": sys.path, "arguments": [documents.encode(a) for a in arguments]})
    reading, writing = os.pipe()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgepack.children", str(writing)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(writing,),
            start_new_session=True,
            env={**os.environ, **_import_path(), **(environment or {})},
        )
    os.close(writing)
    try:
        assert process.stdin is not None
        try:
            process.stdin.write(request.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once; the exit status below says how
        answer = _listen(reading, time.monotonic() + limit_s, progress)
    except TimeoutError:
        raise errors.ChildError(
            f"{_title(function)} took longer than {limit_s:.0f} s and was stopped",
            log=_tail(log),
            hint=f"allow more time with --compile-limit, or see the log {log}",
        ) from None
    finally:
        os.close(reading)
        _end(process)
    if answer is None:
        raise errors.ChildError(
            f"{_title(function)} crashed ({_how(process.returncode)})",
            log=_tail(log),
            hint=f"the engine failed inside its own code; its last words are in {log}",
        )
    if "error" in answer:
        raise _rebuild(answer["error"], log)
    return documents.decode(_return_type(function), answer["result"], name)  # type: ignore[no-any-return]


def _import_path() -> dict[str, str]:
    """Let the child import this very edgepack, also when it is not installed."""
    root = str(Path(__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": root if not known else root + os.pathsep + known}


def _listen(reading: int, deadline: float, progress: Progress) -> dict[str, Any] | None:
    """Read the child's lines until its answer; None when it closed the pipe without one."""
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            piece = os.read(reading, 1 << 16)
            if not piece:
                return None
            buffer += piece
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "progress" in message:
                    progress(*message["progress"])
                else:
                    return dict(message)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child that has answered; kill its whole process group when it lingers."""
    try:
        process.wait(timeout=0 if sys.exc_info()[0] else 2)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _rebuild(error: Mapping[str, str], log: Path) -> errors.EdgepackError:
    kind = getattr(errors, error["kind"], None)
    if isinstance(kind, type) and issubclass(kind, errors.EdgepackError):
        return kind(error["message"], hint=error["hint"])
    return errors.EdgepackError(f"{error['kind']}: {error['message']}", hint=f"the traceback is in {log}")


def _return_type(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function)["return"]


def _title(function: Callable[..., Any]) -> str:
    return function.__qualname__.replace("_", " ").strip()


def _how(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed build leaves nothing running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(channel: int) -> None:
    """The child's side: read the request, run the function, write the answer."""
    _die_with_parent()
    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = request["path"]

    def send(message: Mapping[str, Any]) -> None:
        os.write(channel, json.dumps(message).encode() + b"\n")

    try:
        module, _, name = request["function"].partition(":")
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
        hints = typing.get_type_hints(function)
        names = [p for p in inspect.signature(function).parameters if p != "progress"]
        values = [documents.decode(hints[n], a, n) for n, a in zip(names, request["arguments"], strict=False)]
        extra = {"progress": lambda *p: send({"progress": p})} if "progress" in hints else {}
        result = documents.encode(function(*values, **extra))
    except errors.EdgepackError as error:
        traceback.print_exc()
        send({"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}})
    except BaseException as error:
        traceback.print_exc()
        send({"error": {"kind": type(error).__name__, "message": str(error)[:2000], "hint": ""}})
    else:
        send({"result": result})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # engines' own threads and destructors must not turn an answer into a crash


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
