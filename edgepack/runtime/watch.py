"""A loaded model that follows its file: when an installation switches to another version, so do the next calls.

The new version is loaded beside the old one, in a thread, while calls go on; then one assignment makes the switch, and
the old one is closed by whoever ends the last call that it answers. Where the new one cannot be loaded, the old one
goes on; it is tried again, at longer and longer intervals, since memory or disk may have been short.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgepack.engines.common.threads import refuse_pickling
from edgepack.errors import EdgepackError
from edgepack.runtime.load import LoadedModel, load
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array

_LOG = logging.getLogger("edgepack.runtime.watch")
_LOOK_S = 0.5
_AGAIN_S, _MOST_AGAIN_S = 30.0, 3600.0
_CLOSED = "the model was closed"


class _Generation:
    """A loaded version and how many calls are in it; it is closed by the last one after it was retired."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.calls = 0
        self.retired = False


class WatchedModel:
    """What ``load(..., watch=True)`` returns: ``LoadedModel``'s properties are those of the version in use now.

    ``infer`` may be called from any thread; the arrays that it returns are the caller's own. ``problem`` says why the
    newest version could not be loaded, None when it is the one in use.
    """

    def __init__(
        self,
        path: Path,
        options: RunOptions | None,
        *,
        batch: int = 1,
        allow_native: bool | None = None,
        prepare: Callable[[LoadedModel], object] | None = None,
        look_s: float = _LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load what is at ``path`` now. Raises what ``load`` raises, and what ``prepare`` does.

        ``prepare`` is called with every version before it comes in use; one that it refuses is not taken up.
        """
        self._path, self._look_s, self._clock = path, look_s, clock
        self._read: Callable[[], LoadedModel] = functools.partial(
            load, path, options, batch=batch, allow_native=allow_native
        )
        self._prepare = prepare
        self._guard = threading.Lock()
        self._loader: threading.Thread | None = None
        self._closed = False
        self._looked_at = clock()
        self._again_s, self._again_at = _AGAIN_S, 0.0
        self.problem: str | None = None
        self._mark = _mark(path)
        self._now = _Generation(self._load())

    def infer(self, feeds: Mapping[str, Array], /) -> Mapping[str, Array]:
        """Return the outputs of the version that is in use when the call begins. Raises what its engine raises."""
        self.look()
        with self.using() as model:
            return {name: np.array(value) for name, value in model.infer(feeds).items()}

    def close(self) -> None:
        """Free the engine's memory, when the calls of other threads are done."""
        with self._guard:
            self._closed = True
            loader = self._loader
        if loader is not None:
            loader.join()
        self._retire(self._now)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the version in use; a method holds that version while it runs."""
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._now.model, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self.look()
            with self.using() as model:
                return getattr(model, name)(*arguments, **options)

        return call

    __reduce__ = refuse_pickling

    def __enter__(self) -> WatchedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def using(self) -> Iterator[LoadedModel]:
        """Lend the version in use now; it stays loaded until the block ends. Raises ``EdgepackError`` once closed."""
        with self._guard:
            if self._closed:
                raise EdgepackError(_CLOSED, hint="load it again")
            generation = self._now
            generation.calls += 1
        try:
            yield generation.model
        finally:
            with self._guard:
                generation.calls -= 1
                last = generation.retired and not generation.calls
            if last:
                generation.model.close()

    def _load(self) -> LoadedModel:
        model = self._read()
        try:
            if self._prepare is not None:
                self._prepare(model)
        except BaseException:
            model.close()
            raise
        return model

    def _retire(self, generation: _Generation) -> None:
        with self._guard:
            if generation.retired:
                return
            generation.retired = True
            idle = not generation.calls
        if idle:
            generation.model.close()

    def look(self) -> None:
        """Begin to load the new version when the file is another, at most every half second; calls do it, too."""
        now = self._clock()
        if now - self._looked_at < self._look_s:
            return
        with self._guard:
            if now - self._looked_at < self._look_s or self._loader is not None or self._closed:
                return
            self._looked_at = now
            mark = _mark(self._path)
            if mark is None or (mark == self._mark and (self.problem is None or now < self._again_at)):
                return
            if mark != self._mark:
                self._again_s = _AGAIN_S
            self._mark = mark
            loader = threading.Thread(target=self._take_up, name="edgepack-watch", daemon=True)
            loader.start()  # before others see it, who may wait for its end
            self._loader = loader

    def _take_up(self) -> None:
        try:
            new = _Generation(self._load())
        except Exception as error:  # whatever it is, the version that is loaded goes on
            self.problem = str(error)
            _LOG.warning("%s was not taken up: %s", self._path, error)
            with self._guard:
                self._again_at = self._clock() + self._again_s
                self._again_s = min(2 * self._again_s, _MOST_AGAIN_S)
                self._loader = None
            return
        with self._guard:
            old, self._loader = self._now, None
            if not self._closed:
                self._now, self.problem = new, None
            else:
                old = new
        self._retire(old)


def _mark(path: Path) -> tuple[int, ...] | None:
    """Return what is another when the path leads to another file; None where there is none just now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
