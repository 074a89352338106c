"""Connections that cost a server little, whoever is at their other end.

uvicorn waits for ever for the head of a first request, and for somebody who does not read an answer. Here a head must
come, and an answer must be read, in bounded time; and when there are as many connections as are allowed, the one that
waits longest for a request makes room for a new one, so that those who only hold them keep nobody out.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

HEAD_S = 10.0
READ_S = 10.0  # in every such time an answer that waits to be read must get smaller by _READ_BYTES
_READ_BYTES = 32 << 10


def make_protocol(most: int, head_s: float = HEAD_S, read_s: float = READ_S) -> type[Any]:
    """Return uvicorn's protocol with limits of time: at most ``most`` connections are there at once."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return type("Connection", (_Patience, H11Protocol), {"most": most, "head_s": head_s, "read_s": read_s})


class _Patience:
    """What is added to uvicorn's H11Protocol: when a connection is cut."""

    most: int
    head_s: float
    read_s: float
    # Of H11Protocol:
    loop: asyncio.AbstractEventLoop
    transport: Any
    connections: set[Any]
    cycle: Any
    began = 0.0
    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head, in the place of another connection where there are too many."""
        self.began = self.loop.time()
        if len(self.connections) >= self.most - 1:
            _make_room(self.connections)
        super().connection_made(transport)  # type: ignore[misc]
        self._head = self.loop.call_later(self.head_s, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Take in a part of a request; a head that began to come has its time from then on, not from each part on."""
        super().data_received(data)  # type: ignore[misc]
        if not self.is_waiting():
            self._stop("_head")
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.head_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop("_head")
        self._stop("_unread")
        super().connection_lost(exc)  # type: ignore[misc]

    def pause_writing(self) -> None:
        """Begin to look whether what is written is read."""
        super().pause_writing()  # type: ignore[misc]
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Look no more."""
        self._stop("_unread")
        super().resume_writing()  # type: ignore[misc]

    def is_waiting(self) -> bool:
        """Say whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _stop(self, name: Literal["_head", "_unread"]) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    def _give_up(self) -> None:
        if self.is_waiting():
            self.transport.abort()

    def _watch(self, left: int) -> None:
        self._stop("_unread")
        self._unread = self.loop.call_later(self.read_s, self._look, left)

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > before - _READ_BYTES:
            self.transport.abort()
        else:
            self._watch(left)


def _make_room(connections: set[Any]) -> None:
    """End the oldest connection that waits for a request."""
    waiting = [each for each in connections if each.is_waiting()]
    if waiting:
        oldest = min(waiting, key=lambda each: each.began)
        connections.discard(oldest)
        oldest.transport.abort()
