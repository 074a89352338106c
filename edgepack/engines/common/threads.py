"""A loaded model that any thread may call: each thread has a runner of its own, and who cannot be served is told so.

One request of OpenVINO used by two threads returned the other thread's answer, a virtual machine of TVM ended the
process, and after a fork OpenVINO waits for threads that only the parent has (2026.4, 0.27).
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgepack.engines import Sharing
from edgepack.engines.common.refusals import closed
from edgepack.errors import ConfigError, EdgepackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgepack.engines import Runner
    from edgepack.specs.types import Array, Feeds


def any_thread(runner: Runner) -> Runner:
    """Return a runner of the same model that several threads may call at once, ``runner`` itself where it is one."""
    safe = runner if getattr(runner, "any_thread", False) else EachThread(runner)
    _LOADED.add(safe)
    return safe


def refuse_pickling(_self: object) -> NoReturn:
    """Stand in for ``__reduce__`` of what is loaded: its memory is an engine's, which cannot be sent anywhere."""
    raise EdgepackError(
        "a loaded model can be neither pickled nor copied",
        hint="send the path of the bundle, and load it in the process that runs it",
    )


class EachThread:
    """Runs ``first`` in the thread that calls it first, and for every other thread a runner made by ``another``.

    A runner that cannot be shared is lent to one call at a time: a call meanwhile is refused, and as soon as a second
    thread is seen, outputs are copies, since the next call may be another thread's. A thread's runner goes with it.
    """

    def __init__(self, first: Runner) -> None:
        self._first = _Mine(first)
        self._sharing: Sharing | None = first if isinstance(first, Sharing) else None
        self._others: weakref.WeakSet[_Mine] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._taken = self._closed = False
        self._local: Any = threading.local()

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name. Raises what the runner raises, and ``EdgepackError`` where it cannot be called.

        An output's memory may be reused by the next call in this thread.
        """
        try:
            mine = self._local.mine
        except AttributeError:
            mine = self._local.mine = self._join()
        if not mine.lock.acquire(False):
            mine.refuse()
        try:
            return mine.infer(feeds)  # type: ignore[no-any-return]  # the thread's own storage has no types
        finally:
            mine.lock.release()

    def another(self) -> Runner:
        """Return a runner for one other thread. Raises ``ConfigError`` where the engine offers none."""
        if self._sharing is None:
            raise ConfigError(
                "this engine runs one inference at a time in a process", hint="leave the streams at their default"
            )
        return self._sharing.another()

    def close(self) -> None:
        """Wait for the calls of other threads, then free the engine's memory; calls from now on are refused."""
        with self._guard:
            self._closed = True
            runners = (self._first, *self._others)
        for mine in runners:
            mine.close()

    __reduce__ = refuse_pickling

    def _join(self) -> _Mine:
        """Return the runner of a thread that calls for the first time."""
        with self._guard:
            if self._closed:
                closed()
            if not self._taken:
                self._taken = True
                return self._first
            if self._sharing is None:
                self._first.copies()
                return self._first
            mine = _Mine(self._sharing.another(), of=self._sharing)
            self._others.add(mine)
            return mine

    def abandon(self) -> None:
        """Leave the engine alone in a process that was forked; the memory of the parent is never freed here."""
        for mine in (self._first, *self._others):
            keep_for_ever(mine)
        self._local, self._first, self._others = _Forked(), _Mine(_AfterFork()), weakref.WeakSet()
        self._sharing = _AfterFork()


class _Mine:
    """A runner and the lock that is held while it computes; one made of another (``of``) ends with its thread."""

    def __init__(self, runner: Runner, of: object = None) -> None:
        self._runner, self._ends = runner, of not in (None, runner)
        self.infer: Callable[[Feeds], Mapping[str, Array]] = runner.infer
        self.lock = threading.Lock()

    def copies(self) -> None:
        """Let every call from now on return arrays of its own."""
        infer = self._runner.infer

        def copied(feeds: Feeds, /) -> Mapping[str, Array]:
            return {name: np.array(value) for name, value in infer(feeds).items()}

        self.infer = copied

    def refuse(self) -> NoReturn:
        """Say why the runner cannot compute now."""
        raise EdgepackError(
            "this model is computing, or being closed, in another call",
            hint="load it once for each thread, call it in turn, and close it when all calls are done",
        )

    def close(self) -> None:
        """Free the runner once its call is done."""
        with self.lock:
            self.infer = closed
            self._runner.close()

    def __del__(self) -> None:
        if self._ends and self.infer is not closed:
            self._runner.close()


class _AfterFork:
    """What a loaded model is in a process that was forked from the one that loaded it."""

    def infer(self, *_: object) -> NoReturn:
        """Say what to do instead."""
        raise EdgepackError(
            "this model was loaded before the process was forked, and its engine's threads stayed behind",
            hint="load the bundle in each process, or start processes by multiprocessing's 'spawn'",
        )

    another = infer

    def close(self) -> None:
        """Nothing here is this process's to free."""


forked = _AfterFork().infer


class _Forked:
    """Takes the place of a ``threading.local``."""

    @property
    def mine(self) -> NoReturn:
        forked()


# Everything that was loaded in this process and may be alive.
_LOADED: weakref.WeakSet[Any] = weakref.WeakSet()


def _abandon_all() -> None:
    for runner in list(_LOADED):
        runner.abandon()
    _LOADED.clear()


def keep_for_ever(what: object) -> None:
    """Keep an object past the end of the interpreter: destructors of engines wait for threads that are not there."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


os.register_at_fork(after_in_child=_abandon_all)
