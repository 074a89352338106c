"""A queue with an end before one model: what comes in time is answered, together where that is proven; the rest is
refused at once.

What is accepted is answered within ``wait_s``, counted from its arrival to its answer. So a query is refused when as
many as allowed wait, or when those before it, its own run and its ways in and out take longer, by what the last ones
took; one whose turn comes too late to be run within its time is refused then, and no batch is made so large that its
first query would be late. Only a query that finds nothing before it is always run: how long it takes is not known
before, and the next one profits.

A run is expected to take as much longer than the mean as any of the last ``_REMEMBERED`` did: where a machine is
disturbed now and then, a mean and its deviation forget that before it happens again, and more than one in a hundred is
late.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgepack.errors import EdgepackError
from edgepack.serve.queries import Answer, BusyError, ClosingError, Limits
from edgepack.specs.types import Array

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from edgepack.runtime.load import LoadedModel

_LEARN = 0.2  # weight of the newest batch in what a sample is expected to take
_CAREFUL = 1.25  # times what is expected, since a refusal costs less than a late answer
# Runs and answers: one in so many is later than all of them, which leaves the 99th percentile in time.
_REMEMBERED = 256
_WAYS = 2.0  # in and out: times what is seen of it, which is how long an answer waits for whoever sends it
_LEAST_RETRY_S = 0.1


class Model(Protocol):
    """What computes: lends the version in use, and says of it whether samples may be run at once."""

    def using(self) -> AbstractContextManager[LoadedModel]:
        """Lend the version in use now."""

    def may_batch(self, model: LoadedModel) -> bool:
        """Say whether its samples do not touch each other."""


class Watcher(Protocol):
    """Whoever counts."""

    def waiting(self, queries: int) -> None:
        """So many queries wait now."""

    def ran(self, samples: int, queries: int, waited_s: float, took_s: float) -> None:
        """A batch was run."""


@dataclass(frozen=True)
class _Waiting:
    feeds: Mapping[str, Array]
    rows: int
    key: tuple[object, ...]
    since: float
    alone: bool
    answer: Future[Answer]


class Batcher:
    """Runs the queries of one model in ``limits.workers`` threads."""

    def __init__(
        self,
        name: str,
        model: Model,
        limits: Limits,
        watcher: Watcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._model, self._limits, self._watcher, self._clock = name, model, limits, watcher, clock
        self._queue: deque[_Waiting] = deque()
        self._change = threading.Condition()
        self._rows_waiting = self._rows_running = 0
        self._sample_s = 0.0  # what a sample takes, by the last ones; 0 before the first
        self._longer_s: deque[float] = deque(maxlen=_REMEMBERED)  # how much longer than that each of the last runs took
        self._sent_s: deque[float] = deque(maxlen=_REMEMBERED)  # how long each of the last answers waited to be sent
        self._closed = False
        with model.using() as now:
            self._most = limits.batch if model.may_batch(now) else 1  # samples at once, of the version in use
        self._threads = [
            threading.Thread(target=self._work, name=f"edgepack-serve-{name}-{i}", daemon=True)
            for i in range(limits.workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, feeds: Mapping[str, Array], since: float | None = None) -> Future[Answer]:
        """Return the answer to come. Raises ``BusyError`` where it would not come in time, ``ClosingError`` at the end.

        ``feeds`` were checked; ``since`` is when the query came, by the clock, None for now. The future ends with
        ``DataError`` where the engine does not take them all the same.
        """
        rows = _rows(feeds)
        key = tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in feeds.items()))
        with self._change:
            now = self._clock()
            since = now if since is None else since
            self._refuse_late(rows, now - since)
            alone = not self._rows_waiting + self._rows_running
            waiting = _Waiting(feeds, rows, key, since, alone, Future())
            self._queue.append(waiting)
            self._rows_waiting += rows
            self._watcher.waiting(len(self._queue))
            self._change.notify()
        return waiting.answer

    def refuse_full(self) -> None:
        """Raise what ``submit`` would now, before anything of a query was read."""
        with self._change:
            self._refuse_late(1)

    def sent(self, answer: Answer) -> None:
        """Note that an answer is on its way to who asked."""
        with self._change:
            self._sent_s.append(self._clock() - answer.at)

    def close(self) -> None:
        """Take nothing more, answer what was taken, and end the threads."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _refuse_late(self, rows: int, waited_s: float = 0.0) -> None:
        if self._closed:
            raise ClosingError(f"{self._name}: the server is shutting down", retry_s=1.0)
        before = self._before_s()
        if len(self._queue) >= self._limits.queue:
            raise BusyError(f"{self._name}: {len(self._queue)} queries wait already", max(before, _LEAST_RETRY_S))
        expected = waited_s + before + self._run_s(rows)
        if before and expected > self._limits.wait_s:
            raise BusyError(
                f"{self._name}: the answer would take {expected:.2g} s, those before it {before:.2g} s of them; "
                f"it may take {self._limits.wait_s:.2g} s",
                max(expected - self._limits.wait_s, _LEAST_RETRY_S),
            )

    def _before_s(self) -> float:
        """Return how long those take that wait or run now."""
        before = self._rows_waiting + self._rows_running
        return _CAREFUL * before * self._sample_s / self._limits.workers

    def _run_s(self, rows: int) -> float:
        """Return how long so many samples take at most, on their ways in and out too, as far as the last ones tell."""
        ways = _WAYS * max(self._sent_s, default=0.0)
        return rows * self._sample_s + max(self._longer_s, default=0.0) + ways

    # --- the threads --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._next():
            self._run(batch)
            with self._change:
                self._rows_running -= sum(each.rows for each in batch)

    def _next(self) -> list[_Waiting]:
        """Wait for queries and take those to run at once; none when the end has come."""
        with self._change:
            while True:
                while not self._queue and not self._closed:
                    self._change.wait()
                if not self._queue:
                    return []
                self._gather()
                batch = self._take()
                if batch:
                    return batch

    def _gather(self) -> None:
        """Let the first query wait for others, but not longer than ``delay_s``; the lock is held."""
        while self._queue and not self._closed and self._rows_waiting < self._most:
            left = self._queue[0].since + self._limits.delay_s - self._clock()
            if left <= 0:
                return
            self._change.wait(left)

    def _take(self) -> list[_Waiting]:
        """Take the first query and those like it that can be answered with it in time; the lock is held."""
        batch: list[_Waiting] = []
        rows = 0
        kept: deque[_Waiting] = deque()
        now = self._clock()
        while self._queue:
            each = self._queue.popleft()
            if batch and not self._fits(each, batch, rows, now):
                kept.append(each)
                continue
            self._rows_waiting -= each.rows
            if not each.answer.set_running_or_notify_cancel():
                continue
            if not batch and self._is_late(each, each.rows, now):
                each.answer.set_exception(BusyError(f"{self._name}: its turn did not come in time", _LEAST_RETRY_S))
                continue
            batch.append(each)
            rows += each.rows
        self._queue = kept
        self._rows_running += rows
        self._watcher.waiting(len(kept))
        return batch

    def _fits(self, each: _Waiting, batch: list[_Waiting], rows: int, now: float) -> bool:
        """Say whether a query may be run with a batch, whose first one has waited longest."""
        both = rows + each.rows
        return each.key == batch[0].key and both <= self._most and not self._is_late(batch[0], both, now)

    def _is_late(self, each: _Waiting, rows: int, now: float) -> bool:
        """Say whether a query would be answered too late that is run now as one of ``rows`` samples."""
        waited = now - each.since
        if each.alone and rows == each.rows:
            return waited > self._limits.wait_s
        return waited + self._run_s(rows) > self._limits.wait_s

    def _run(self, batch: list[_Waiting]) -> None:
        start = self._clock()
        try:
            with self._model.using() as model:
                self._most = self._limits.batch if self._model.may_batch(model) else 1
                if len(batch) == 1 or self._most == 1:
                    for each in batch:
                        self._answer(each, model)
                else:
                    self._answer_together(batch, model)
        except BaseException as error:  # the model was closed, or an engine went down with an error of its own
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error.with_traceback(None))
        took = self._clock() - start
        rows = sum(each.rows for each in batch)
        self._learn(took, rows)
        self._watcher.ran(rows, len(batch), start - batch[0].since, took)

    def _answer(self, waiting: _Waiting, model: LoadedModel) -> None:
        """Run one query; one of more samples than are run at once, where they do not touch each other, in parts."""
        try:
            feeds, most = waiting.feeds, self._most
            if most > 1 and waiting.rows > most and all(len(array) == waiting.rows for array in feeds.values()):
                parts = [self._computed(part, model) for part in _parts(feeds, waiting.rows, most)]
                outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            else:
                outputs = self._outputs(feeds, model)
        except Exception as error:
            # Its traceback would keep the query, and the query it, until Python looks for what keeps itself.
            waiting.answer.set_exception(error.with_traceback(None))
        else:
            waiting.answer.set_result(Answer(outputs, self._name, model.manifest.version, self._clock()))

    def _answer_together(self, batch: list[_Waiting], model: LoadedModel) -> None:
        """Run queries as one; where the engine refuses, each by itself, so that one does not end the others."""
        feeds = {key: np.concatenate([each.feeds[key] for each in batch]) for key in batch[0].feeds}
        try:
            outputs = self._computed(feeds, model)
        except Exception:
            for each in batch:
                self._answer(each, model)
            return
        start, at = 0, self._clock()
        for each in batch:
            end = start + each.rows
            part = {key: value[start:end] for key, value in outputs.items()}
            each.answer.set_result(Answer(part, self._name, model.manifest.version, at))
            start = end

    def _outputs(self, feeds: Mapping[str, Array], model: LoadedModel) -> dict[str, Array]:
        found = model.infer(feeds)
        return {spec.name: np.array(found[spec.name]) for spec in model.outputs}

    def _computed(self, feeds: Mapping[str, Array], model: LoadedModel) -> dict[str, Array]:
        """Return outputs that have a row for each sample. Raises ``EdgepackError`` where they have others."""
        outputs = self._outputs(feeds, model)
        if any(len(value) != _rows(feeds) for value in outputs.values()):
            raise EdgepackError(f"{self._name}: the outputs of {_rows(feeds)} samples have a different number of rows")
        return outputs

    def _learn(self, took_s: float, rows: int) -> None:
        with self._change:
            if not self._sample_s:
                self._sample_s = took_s / rows
                return
            off = took_s - rows * self._sample_s
            self._sample_s += _LEARN * off / rows
            self._longer_s.append(max(0.0, off))


def _parts(feeds: Mapping[str, Array], rows: int, most: int) -> Iterator[dict[str, Array]]:
    """Yield the feeds of ``rows`` samples, ``most`` at once."""
    for start in range(0, rows, most):
        yield {name: array[start : start + most] for name, array in feeds.items()}


def _rows(feeds: Mapping[str, Array]) -> int:
    return max(1, *(array.shape[0] if array.ndim else 1 for array in feeds.values()))
