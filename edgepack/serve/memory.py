"""The memory that queries take which are being read or wait, of each protocol: it has an end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgepack.serve.queries import BusyError

_AT_ONCE = 4  # times the largest query


class Memory:
    """Bytes of queries that are here now: at most four times ``largest``, the most that one query has."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self._left = _AT_ONCE * largest
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_wanted(self) -> bool:
        """Say whether somebody waits for memory."""
        return bool(self._waiting)

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Give what a query calls for each piece of it that came; what it holds is free again at its end.

        What is announced and does not come holds nothing: else who sends nothing would keep all others out. The call
        raises ``BusyError`` where the memory is not there; a negative size gives some back.
        """
        held = 0

        def more(size: int) -> None:
            nonlocal held
            if size > self._left:
                raise self._full()
            held += size
            self._change(-size)

        try:
            yield more
        finally:
            self._change(held)

    async def room(self, wait_s: float) -> None:
        """Wait until there is memory for the largest query. Raises ``BusyError`` where there is none in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while self.largest > self._left:
            turn = loop.create_future()
            self._waiting.append(turn)
            try:
                await asyncio.wait_for(turn, deadline - loop.time())
            except asyncio.TimeoutError:  # noqa: UP041 (Python 3.10)
                raise self._full() from None
            finally:
                self._waiting.remove(turn)

    def _change(self, size: int) -> None:
        self._left += size
        if size > 0:
            for turn in self._waiting:  # each looks again, the longest waiting one first
                if not turn.done():
                    turn.set_result(None)

    def _full(self) -> BusyError:
        return BusyError("the queries that are here fill the memory for them", retry_s=1.0)
