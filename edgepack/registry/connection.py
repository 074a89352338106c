"""HTTP connections to a server that is not trusted: requests and whole answers have a time limit.

A socket's own time limit begins anew with each byte, so that an answer of one byte now and then would never end.
"""

from __future__ import annotations

import http.client
import io
import time
import urllib.request
from typing import Any

TIMEOUT_S = 30.0
# A transfer may take this long, and as long as this speed takes.
PATIENCE_S, SLOWEST_BYTES_S = 60.0, 1000.0
_MOST_HEAD_BYTES = 1 << 20  # Python ends a line at 64 KiB and headers at 100, but reads any number of interim answers
_BLOCK_BYTES = 1 << 16  # what is sent under one time limit of the socket


class _Pace:
    """Raises ``ConnectionError`` for what moves slower than ``SLOWEST_BYTES_S`` once ``PATIENCE_S`` are over."""

    def __init__(self) -> None:
        self.moved = 0
        self._began = time.monotonic()

    def check(self) -> None:
        if time.monotonic() - self._began > PATIENCE_S + self.moved / SLOWEST_BYTES_S:
            raise ConnectionError(f"{self.moved} bytes moved in {PATIENCE_S:.0f} s")


class _Incoming(io.RawIOBase):
    """What a socket brings, of which ``most`` bytes are read."""

    def __init__(self, raw: io.RawIOBase, most: int | None) -> None:
        super().__init__()
        self.most, self._raw, self._pace = most, raw, _Pace()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        self._pace.check()
        if self.most is not None and self._pace.moved > self.most:
            raise ConnectionError(f"more than {self.most} bytes before the answer begins")
        count = self._raw.readinto(into)
        self._pace.moved += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer whose status line, headers and body each have to come."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self._incoming = _Incoming(self.fp.detach(), _MOST_HEAD_BYTES)
        self.fp = io.BufferedReader(self._incoming)

    def begin(self) -> None:
        super().begin()
        self._incoming.most = None


class Outgoing(io.RawIOBase):
    """Bytes that are sent in blocks; each attempt to send them needs one of its own."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data, self._pace = data, _Pace()

    def __len__(self) -> int:
        return len(self._data)

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises ``ConnectionError`` where those before were taken too slowly."""
        self._pace.check()
        start = self._pace.moved
        piece = self._data[start : start + size] if size >= 0 else self._data[start:]
        self._pace.moved += len(piece)
        return piece


class _Connection(http.client.HTTPConnection):
    response_class = _Answer

    def __init__(self, host: str, **named: Any) -> None:
        super().__init__(host, blocksize=_BLOCK_BYTES, **named)


class _TlsConnection(http.client.HTTPSConnection):
    response_class = _Answer

    def __init__(self, host: str, **named: Any) -> None:
        super().__init__(host, blocksize=_BLOCK_BYTES, **named)


class HttpHandler(urllib.request.HTTPHandler):
    """Opens ``http://`` addresses for ``urllib``."""

    def http_open(self, request: urllib.request.Request) -> Any:
        """Return the answer to a request."""
        return self.do_open(_Connection, request)


class HttpsHandler(urllib.request.HTTPSHandler):
    """Opens ``https://`` addresses for ``urllib``."""

    def https_open(self, request: urllib.request.Request) -> Any:
        """Return the answer to a request."""
        return self.do_open(_TlsConnection, request, context=self._context)  # type: ignore[attr-defined]
