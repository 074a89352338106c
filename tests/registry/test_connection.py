"""Requests and answers that move slowly: those that go on are waited for, the others are not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from edgepack.registry import connection
from edgepack.registry.connection import HttpHandler, Outgoing


@contextlib.contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection by ``talk`` and yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

        def run() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as link:
                talk(link)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def put(address: str, data: bytes, timeout_s: float = 5.0) -> bytes:
    request = urllib.request.Request(address, Outgoing(data), {"Content-Length": str(len(data))}, method="PUT")
    with urllib.request.build_opener(HttpHandler()).open(request, timeout=timeout_s) as answer:
        return bytes(answer.read())


def reading(count: int, piece: int, pause_s: float) -> tuple[Callable[[socket.socket], None], list[int]]:
    came = [0]

    def talk(link: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += link.recv(1)
        while came[0] < count and (data := link.recv(piece)):
            came[0] += len(data)
            time.sleep(pause_s)
        link.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")

    return talk, came


def test_what_is_sent_may_take_longer_than_a_socket_waits() -> None:
    """Python's limit is of all that one call sends: 8 MiB in 30 s were given up below 280 kB/s."""
    data, began = bytes(16 << 20), time.monotonic()  # of which the system takes up to 4 MiB before they are read
    talk, came = reading(len(data), 1 << 18, 0.05)
    with server(talk) as address:
        assert put(address, data, timeout_s=2.0) == b"ok"
    assert came == [len(data)]
    assert time.monotonic() - began > 2.0, "else nothing was proved"


def test_who_hardly_reads_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 0.3)
    monkeypatch.setattr(connection, "SLOWEST_BYTES_S", 1e9)
    talk, came = reading(64 << 20, 1 << 16, 0.2)
    with server(talk) as address, pytest.raises((urllib.error.URLError, ConnectionError), match="bytes moved in"):
        put(address, bytes(64 << 20), timeout_s=5.0)
    assert came[0] < 64 << 20


def test_an_answer_comes_whole_and_bounded_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(link: socket.socket) -> None:
        link.recv(65536)
        link.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
        link.sendall(b"x" * 300_000)

    with server(talk) as address:
        assert put(address, b"") == b"x" * 300_000
    monkeypatch.setattr(connection, "_MOST_HEAD_BYTES", 40)
    with server(talk) as address, pytest.raises((urllib.error.URLError, ConnectionError), match="before the answer"):
        put(address, b"")
