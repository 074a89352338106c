"""Runs a function in a child process with a time limit, so that an engine that crashes or hangs costs one call.

The function's arguments and its return value travel as JSON documents, decoded by its type annotations. A parameter
named ``progress`` is filled by the child with one that reports to the parent. What the child prints goes to a log.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import IO, Any, Protocol, TypeVar

from edgepack import errors
from edgepack.base import documents
from edgepack.base.files import DISK_FULL, in_scratch, scratch_folder, storage_errors, temporary_folder
from edgepack.base.resources import package_folder
from edgepack.base.stage import needs_of
from edgepack.execution import fork_server, log_records
from edgepack.execution.reads import ReadFiles
from edgepack.execution.user_lines import UserLines
from edgepack.specs.types import Progress, no_progress

T = TypeVar("T")

_LOG_TAIL_BYTES = 2000
_PIECE_BYTES = 1 << 20
_LOOK_S = 0.1  # how often the parent looks whether the child is still alive: a grandchild may hold its pipe open
_GRACE_S = 2.0  # for a child that has answered to end by itself
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# The threads of numpy's and scipy's OpenBLAS spin while they wait for each other: on a busy machine the inverse of a
# 960 x 960 matrix took six times the CPU time of one thread. Stages use the cores by threads of their own; with one
# thread the sums in a product also have one order, whatever the number of cores.
_SINGLE = {"OPENBLAS_NUM_THREADS": "1"}


def call(
    function: Callable[..., T],
    *arguments: Any,
    limit_s: float,
    log: Path | None = None,
    progress: Progress = no_progress,
    environment: Mapping[str, str] | None = None,
    track: Path | None = None,
    limit_option: str = "--compile-limit",
    said: Callable[[str], None] | None = None,
    title: str | None = None,
    folder: Path | None = None,
    forked: bool = False,
    held: int | None = None,
) -> T:
    """Return ``function(*arguments)``, run in a fresh Python process whose output is added to the file ``log``.

    Without ``log``, or with one in a scratch folder, errors tell the last words instead of a file that will be gone.
    ``limit_option`` is what the user gives for more time. ``said`` is called with each line that the user's own code
    prints while it runs; the log has it too. ``folder`` is where the child runs, else where this process does.
    ``title`` is what errors call it, else the function's name. A process that is ``forked`` has imported already what
    most stages need (``fork_server.py``): not for what measures memory, nor for users' code, whose imports are tracked.
    ``held`` is a descriptor that the child keeps open as long as it lives: what is locked by it stays so when this
    process is killed, until the child is gone as well.
    The function must be importable by its module and name. ``track`` is a folder in which the child keeps what files
    the function read (see ``reads.py``). Whatever happens, no process of the child's group is left.
    Raises the ``EdgepackError`` that the function raised; ``ChildError`` when the process crashed or took longer than
    ``limit_s`` seconds; ``StorageError`` on a full disk; ``EdgepackError`` for any other exception.
    """
    with contextlib.ExitStack() as stack:
        place = log if log is not None else stack.enter_context(scratch_folder()) / "child.log"
        about = _About(title or _title(function), place, not in_scratch(place), limit_s, limit_option)
        return _call(
            function,
            arguments,
            about,
            _Heard(progress, said),
            _Around(environment or {}, folder, forked, () if held is None else (held,), needs_of(function)),
            track,
        )


@dataclass(frozen=True)
class _Heard:
    """Who hears of a call while it runs."""

    progress: Progress
    said: Callable[[str], None] | None


@dataclass(frozen=True)
class _Around:
    """What is set up for a child: variables besides those of this process, its folder, how it begins, what it holds,
    and the modules that it needs.
    """

    environment: Mapping[str, str]
    folder: Path | None
    forked: bool
    held: tuple[int, ...]
    needs: tuple[str, ...]

    def variables(self) -> dict[str, str]:
        """Return the environment of the child."""
        return {**_SINGLE, **os.environ, **_import_path(), **self.environment}


@dataclass(frozen=True)
class _About:
    """What errors tell of a call."""

    title: str
    log: Path
    named: bool
    limit_s: float
    limit_option: str

    def last_words(self, *, where: str) -> str:
        """Return where the log is, or what it ends with when nobody will find it."""
        if self.named:
            return f"{where} {self.log}"
        words = _tail(self.log).strip().splitlines()
        return f"its last words: {words[-1][:300]}" if words else "it said nothing"


def _call(
    function: Callable[..., T],
    arguments: tuple[Any, ...],
    about: _About,
    heard: _Heard,
    around: _Around,
    track: Path | None,
) -> T:
    log, killed_before = about.log, _killed_for_memory()
    name = f"{function.__module__}:{function.__qualname__}"
    request = {
        "function": name,
        "path": sys.path,
        "arguments": [documents.encode(a) for a in arguments],
        "track": str(track) if track is not None else None,
    }
    deadline = time.monotonic() + about.limit_s
    with _child(request, log, around) as (process, reading):
        try:
            answer = _listen(process, reading, deadline, heard)
        except _TooLong:
            raise errors.ChildError(
                f"{about.title} took longer than {about.limit_s:.0f} s and was stopped",
                log=_tail(log),
                hint=f"allow more time with {about.limit_option}; {about.last_words(where='its log is')}",
            ) from None
        if answer is not None:
            _wait(process, _GRACE_S)
    if answer is None:
        raise errors.ChildError(
            f"{about.title} crashed ({_how(process.returncode, killed_before)})",
            log=_tail(log),
            hint="the engine failed inside its own code; " + about.last_words(where="its last output is in"),
        )
    if "error" in answer:
        raise _rebuild(answer["error"], about)
    return documents.decode(_return_type(function), answer["result"], name)  # type: ignore[no-any-return]


# --- the parent's side ------------------------------------------------------------------------------------------------


class _TooLong(Exception):  # noqa: N818  (not an error that leaves this module)
    """The child did not answer before its deadline."""


class _Process(Protocol):
    """A child as its parent sees it: ``subprocess.Popen`` or a forked one."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


@contextmanager
def _child(request: Mapping[str, Any], log: Path, around: _Around) -> Iterator[tuple[_Process, int]]:
    """Start the child and yield it with the pipe that it answers through; kill its whole group in the end."""
    with storage_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, _question(request, around) as question:
            reading, writing = os.pipe()
            try:
                process = _begin(question, output, writing, around)
            except OSError as error:
                os.close(reading)
                raise errors.EdgepackError(
                    f"cannot start a process: {error.strerror}", hint="free some memory, or stop other processes"
                ) from error
            finally:
                os.close(writing)
    try:
        yield process, reading
    finally:
        os.close(reading)
        _kill(process)
        if isinstance(process, fork_server.Forked):
            process.release()


@contextmanager
def _question(request: Mapping[str, Any], around: _Around) -> Iterator[IO[bytes]]:
    """Yield the child's standard input: a file, as a pipe would block until the child reads it."""
    place = {"environment": around.variables(), "folder": str(around.folder or Path.cwd())} if around.forked else {}
    with storage_errors(temporary_folder()):
        question = tempfile.TemporaryFile()  # noqa: SIM115 (closed below; what is wrong then is another file's)
        try:
            question.write(json.dumps({**request, **place}).encode())
            question.seek(0)
        except OSError:
            with contextlib.suppress(OSError):  # it tries to write once more
                question.close()
            raise
    with question:
        yield question


def _begin(question: IO[bytes], output: IO[bytes], writing: int, around: _Around) -> _Process:
    """Start the child with its request as standard input."""
    variables = around.variables()
    if around.forked:
        passed = (question.fileno(), output.fileno(), writing, around.held)
        forked = fork_server.fork(variables, around.needs, *passed)
        if forked is not None:
            return forked
        question.seek(0)
    return subprocess.Popen(
        [*fork_server.run_module(__name__), str(writing), str(os.getpid())],
        stdin=question,
        stdout=output,
        stderr=output,
        pass_fds=(writing, *around.held),
        start_new_session=True,
        env=variables,
        cwd=around.folder,
    )


def _import_path() -> dict[str, str]:
    """Let the child import this very edgepack, also when it is not installed."""
    root = str(package_folder().parent)
    known = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": root if not known else root + os.pathsep + known}


def _listen(process: _Process, reading: int, deadline: float, heard: _Heard) -> dict[str, Any] | None:
    """Return the child's answer; None when it ended without one. Raises ``_TooLong`` at the deadline."""
    for line in _lines(process, reading, deadline):
        message = json.loads(line)
        if "said" in message:
            if heard.said is not None:
                heard.said(message["said"])
        elif "record" in message:
            log_records.repeat(message["record"])
        elif "progress" in message:
            heard.progress(*message["progress"])
        else:
            return dict(message)
    return None


def _lines(process: _Process, reading: int, deadline: float) -> Iterator[bytes]:
    """Yield the lines that the child writes until it ends."""
    begun = bytearray()
    while True:
        ended = process.poll() is not None  # asked before reading, so that its last words are not missed
        left = deadline - time.monotonic()
        if left <= 0:
            raise _TooLong
        ready, _, _ = select([reading], [], [], 0 if ended else min(left, _LOOK_S))
        if not ready and not ended:
            continue
        piece = os.read(reading, _PIECE_BYTES) if ready else b""
        if not piece:
            return
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield bytes(begun) + line
            begun.clear()
        begun += rest


def _wait(process: _Process, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def _kill(process: _Process) -> None:
    """End the child and everything in its process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _rebuild(error: Mapping[str, str], about: _About) -> errors.EdgepackError:
    kind = getattr(errors, error["kind"], None)
    if isinstance(kind, type) and issubclass(kind, errors.EdgepackError):
        return kind(error["message"], hint=error["hint"])
    return errors.EdgepackError(
        f"{error['kind']}: {error['message']}", hint=about.last_words(where="the traceback is in")
    )


def _return_type(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function)["return"]


def _title(function: Callable[..., Any]) -> str:
    return function.__qualname__.replace("_", " ").strip()


def _killed_for_memory() -> int | None:
    """Return how many processes the kernel has killed for want of memory so far; None where it is not told."""
    try:
        counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(counts["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def _how(status: int | None, killed_before: int | None = None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if -status != signal.SIGKILL:
        return f"killed by {name}"
    killed = _killed_for_memory()
    if killed is None or killed_before is None:
        return f"killed by {name}, as when memory runs out"
    return f"killed by {name}, " + ("because memory ran out" if killed > killed_before else "as by another program")


def _tail(log: Path) -> str:
    """Return the end of the log."""
    try:
        with log.open("rb") as file:
            file.seek(-min(_LOG_TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


# --- the child's side -------------------------------------------------------------------------------------------------


class _Channel:
    """Sends messages to the parent, one a line, whole ones from any thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._file = os.fdopen(descriptor, "wb")
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed build leaves nothing running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


def serve_forked(descriptor: int, parent: int) -> None:
    """Serve a request in a process that ``parent`` has forked, under the environment that the request names."""
    _serve(descriptor, parent, forked=True)


def _serve(descriptor: int, parent: int, *, forked: bool = False) -> None:
    """Read the request, run the function, send the answer, and end without running anybody's destructors."""
    _die_with(parent)
    channel = _Channel(descriptor)
    request = json.loads(sys.stdin.buffer.read())
    if forked:
        _settle(request["environment"], request["folder"])
    sys.path[:] = request["path"]
    sys.stdout = UserLines(sys.stdout, lambda line: channel.send({"said": line}))
    log_records.forward(lambda record: channel.send({"record": record}))
    try:
        result = _run(request, channel)
    except BaseException as error:
        traceback.print_exc()
        channel.send({"error": _describe(error)})
    else:
        channel.send({"result": result})
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)  # engines' own threads and destructors must not turn an answer into a crash


def _settle(environment: Mapping[str, str], folder: str) -> None:
    """Take the environment and the folder that the parent has now, and random numbers of this process's own."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)
    if (numbers := sys.modules.get("numpy.random")) is not None:
        numbers.seed()  # Python's own generator does so by itself


def _describe(error: BaseException) -> dict[str, str]:
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        error = errors.StorageError(f"no space left while writing {error.filename or 'a file'}")
    if isinstance(error, MemoryError):
        error = errors.EdgepackError(
            "not enough memory", hint="stop other programs, or use smaller inputs or a batch of 1"
        )
    if isinstance(error, ModuleNotFoundError):
        error = errors.ToolchainError(f"the Python package {error.name} is not installed")
    if isinstance(error, errors.EdgepackError):
        return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    return {"kind": type(error).__name__, "message": str(error)[:2000], "hint": ""}


def _run(request: Mapping[str, Any], channel: _Channel) -> Any:
    """Return the encoded result of the function that the request names."""
    reads = ReadFiles() if request["track"] is not None else None
    module, _, name = request["function"].partition(":")
    function = find_function(module, name)
    values = decoded(function, request["arguments"])
    hints = typing.get_type_hints(function)
    extra = {"progress": lambda *p: channel.send({"progress": p})} if "progress" in hints else {}
    result = function(*values, **extra)
    if reads is not None:
        reads.write(Path(request["track"]))
    return documents.encode(result)


def find_function(module: str, name: str) -> Any:
    """Return a function by its module and qualified name."""
    function: Any = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    return function


def decoded(function: Callable[..., Any], arguments: list[Any]) -> list[Any]:
    """Return the arguments of a function from JSON types, by its annotations."""
    hints = typing.get_type_hints(function)
    names = [p for p in inspect.signature(function).parameters if p != "progress"]
    if len(arguments) > len(names):
        raise TypeError(f"{function.__qualname__} takes {len(names)} arguments, not {len(arguments)}")
    return [documents.decode(hints[n], a, n) for n, a in zip(names, arguments, strict=False)]


def decode_result(function: Callable[..., T], result: Any) -> T:
    """Return what a function returned from JSON types, by its annotation."""
    found: T = documents.decode(_return_type(function), result, function.__qualname__)
    return found


def rebuilt(error: Mapping[str, str], log: str) -> errors.EdgepackError:
    """Return an error of edgepack that came by its kind, message and hint; ``log`` is the end of a crash's log."""
    kind = getattr(errors, error["kind"], errors.EdgepackError)
    if kind is errors.ChildError:
        return errors.ChildError(error["message"], log=log, hint=error["hint"])
    found: errors.EdgepackError = kind(error["message"], hint=error["hint"])
    return found


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
