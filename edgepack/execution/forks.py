"""The process that forks children for ``fork_server.py``: it imports what they need, and does nothing else.

It ends when the process that began it does, and Linux ends its children with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from select import select
from typing import NoReturn

from edgepack.execution import child
from edgepack.execution.fork_server import MOST_BYTES, MOST_DESCRIPTORS, NUMBER, STATUS

# What most stages import. None of them starts a thread when it is imported, which is looked at.
PRELOADED = ("numpy", "numpy.random", "onnx", "onnx.numpy_helper", "onnxruntime")
_LOOK_S = 1.0  # how often the server looks whether the process that began it is there


class _Children:
    """The children that run, or have ended and were not released: their numbers by the socket of each."""

    def __init__(self) -> None:
        self._known: dict[socket.socket, int] = {}
        self._ended: set[int] = set()

    @property
    def sockets(self) -> list[socket.socket]:
        return list(self._known)

    def begin(self, status: socket.socket, pid: int) -> None:
        self._known[status] = pid

    def tell_ended(self) -> None:
        """Send the exit status of those that have ended. They are not collected yet: their numbers stay theirs."""
        for status, pid in self._known.items():
            if pid in self._ended:
                continue
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                self._ended.add(pid)
                code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
                with contextlib.suppress(OSError):  # nobody waits for it any more
                    status.send(NUMBER.pack(code))

    def release(self, status: socket.socket) -> None:
        """Collect one that its owner has done with, and has ended."""
        pid = self._known.pop(status)
        self._ended.discard(pid)
        status.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main(descriptor: int, parent: int, path: list[str]) -> None:
    """Import, then fork a child for each request until the control socket is closed or ``parent`` is gone."""
    sys.path[:] = path
    if not _imported(PRELOADED):
        return
    control = socket.socket(fileno=descriptor)
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    children = _Children()
    while os.getppid() == parent:
        heard: list[socket.socket | int] = [control, waking, *children.sockets]
        ready, _, _ = select(heard, [], [], _LOOK_S)
        if waking in ready:
            os.read(waking, 4096)
            children.tell_ended()
        for status in children.sockets:
            if status in ready:  # it sends nothing: its other end was closed
                children.release(status)
        if control in ready:
            asked, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, MOST_DESCRIPTORS)
            # While a child runs nothing is imported here: it would end with this process.
            if not asked or not (children.sockets or _imported(_kept(json.loads(asked)))):
                return
            _fork(descriptors, children, (control.fileno(), waking, woken))


def _kept(needs: list[str]) -> list[str]:
    """Return what of a child's modules is imported here: nothing of the user's, which may change, and nothing twice."""
    own = (name for name in needs[:1] if name.startswith("edgepack."))  # the function's own module
    return [name for name in (*own, *needs[1:]) if name not in sys.modules]


def _imported(names: Sequence[str]) -> bool:
    """Import modules; say whether no thread runs since. A fork would have its locks, and not what frees them."""
    for name in names:
        with contextlib.suppress(Exception):  # what is not here is told by the stage that needs it
            importlib.import_module(name)
    if names:
        gc.freeze()
    return len(list(Path("/proc/self/task").iterdir())) == 1


def _fork(descriptors: list[int], children: _Children, own: tuple[int, ...]) -> None:
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        _begin(descriptors, [*own, *(status.fileno() for status in children.sockets)], server)
    status = descriptors.pop(STATUS)
    for descriptor in descriptors:
        os.close(descriptor)
    children.begin(socket.socket(fileno=status), pid)


def _begin(descriptors: list[int], others: list[int], server: int) -> NoReturn:
    """Become what ``subprocess.Popen`` would have started, in a session of its own, and answer the request."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        question, output, writing, status, *_held = descriptors
        for place, descriptor in enumerate((question, output, output)):
            os.dup2(descriptor, place)
        for descriptor in (question, output, *others):
            os.close(descriptor)
        with socket.socket(fileno=status) as told:
            told.send(NUMBER.pack(os.getpid()))
        child.serve_forked(writing, server)
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
