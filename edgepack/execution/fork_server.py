"""Begins child processes by forking one that has imported what most stages import (``forks.py``).

Importing NumPy, ONNX and the reference engine takes a stage a quarter of a CPU second, a fork a few milliseconds. The
process keeps what children were known to need besides: edgepack's own modules, and packages that a stage names. It has
one thread and has loaded no model, so that what it forks is as good as a fresh process; it runs under the very
environment and import path that the children are to have, else it is begun anew.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from select import select

NUMBER = struct.Struct("i")  # what the server and its children send: a process's number, then its exit status
STATUS = 3  # which of the descriptors that it is sent the server answers through
MOST_DESCRIPTORS = 8
MOST_BYTES = 4096  # of a request: the names of modules, as JSON
_MODULE = f"{__package__}.forks"
# Variables that no library reads when it is loaded: they reach a child after it was forked.
_LATE = ("EDGEPACK_", "PYTEST_CURRENT_TEST")

_ANSWER_S = 60.0  # for the first answer, in which it imports; then it takes milliseconds

_Key = tuple[dict[str, str], tuple[str, ...]]


def run_module(name: str) -> list[str]:
    """Return how this Python runs a module with nothing of the current folder in place of the standard library.

    Python has a flag for it since 3.11; the devices of JetPack 6 have 3.10.
    """
    if hasattr(sys.flags, "safe_path"):
        return [sys.executable, "-P", "-X", "faulthandler", "-m", name]
    code = f"import sys; del sys.path[0]; import runpy; runpy.run_module({name!r}, run_name='__main__')"
    return [sys.executable, "-X", "faulthandler", "-c", code]


class Forked:
    """A child that the server began, as ``subprocess.Popen`` shows one; its number is its own until ``release``."""

    def __init__(self, pid: int, status: socket.socket, server: _Server) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status, self._server = status, server

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status when it has ended. Raises ``subprocess.TimeoutExpired``."""
        found = self._read(timeout)
        if found is None:
            raise subprocess.TimeoutExpired("a forked child", timeout or 0)
        return found

    def release(self) -> None:
        """Let the server forget it. To be called once, when it was waited for."""
        self._status.close()
        self._server.running.discard(self)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select([self._status], [], [], timeout)[0]:
            told = self._status.recv(NUMBER.size)
            # Without an answer the server is gone, and Linux has ended its children with it.
            self.returncode = NUMBER.unpack(told)[0] if told else -signal.SIGKILL
        return self.returncode


class _Server:
    """One process that forks. ``running`` are the children that were not released."""

    def __init__(self, environment: Mapping[str, str], key: _Key) -> None:
        self.key, self.owner = key, os.getpid()
        self.running: set[Forked] = set()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*run_module(_MODULE), str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )

    def fork(
        self, needs: Sequence[str], question: int, output: int, writing: int, held: Sequence[int]
    ) -> Forked | None:
        """Return a child that has these as standard input, as both outputs, to answer through, and for nothing."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_S)
        try:
            with theirs:
                descriptors = [question, output, writing, theirs.fileno(), *held]
                socket.send_fds(self._control, [json.dumps(needs).encode()], descriptors)
            told = ours.recv(NUMBER.size)
        except OSError:
            told = b""
        if not told:
            ours.close()
            return None
        ours.settimeout(None)
        found = Forked(NUMBER.unpack(told)[0], ours, self)
        self.running.add(found)
        return found

    def end(self) -> None:
        """End the process, and the children that it still has."""
        self._control.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        else:
            self._process.returncode = 0  # the process is another one's child: nobody here can wait for it


class _Servers:
    """The server of this process. It is begun by the second call in a row that needs the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._last: _Key | None = None
        self._failed = False

    def fork(
        self,
        environment: Mapping[str, str],
        needs: Sequence[str],
        question: int,
        output: int,
        writing: int,
        held: Sequence[int],
    ) -> Forked | None:
        """Return a forked child, None where there shall be none."""
        early = {name: value for name, value in environment.items() if not name.startswith(_LATE)}
        key = (early, tuple(sys.path))
        with self._lock:
            server = self._for(environment, key)
            found = server.fork(needs, question, output, writing, held) if server is not None else None
            if server is not None and found is None:
                self._failed = True  # it says nowhere why: every child is a process of its own then
                self._end()
            return found

    def _for(self, environment: Mapping[str, str], key: _Key) -> _Server | None:
        if self._server is not None and self._server.owner != os.getpid():  # this process was forked from its owner
            self._end()
        if self._failed or (self._server is not None and self._server.key == key):
            return self._server
        again, self._last = key == self._last, key
        if not again or (self._server is not None and self._server.running):
            return None
        self._end()
        self._server = _Server(environment, key)
        return self._server

    def _end(self) -> None:
        if self._server is not None:
            self._server.end()
            self._server = None

    def end(self) -> None:
        """End the server, if there is one."""
        with self._lock:
            self._end()


_SERVERS = _Servers()
atexit.register(_SERVERS.end)


def fork(
    environment: Mapping[str, str],
    needs: Sequence[str],
    question: int,
    output: int,
    writing: int,
    held: Sequence[int] = (),
) -> Forked | None:
    """Return a forked child that is to run under ``environment``; None where a process must be started for it.

    ``needs`` are modules that the server may import first, so that all later children have them too. ``question``,
    ``output`` and ``writing`` are the descriptors of its standard input, of its standard output and error, and of the
    pipe that it answers through; ``held`` are others that it keeps open. It takes the environment by itself, see
    ``child.serve_forked``.
    """
    return _SERVERS.fork(environment, needs, question, output, writing, held) if sys.platform == "linux" else None
