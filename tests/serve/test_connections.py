"""A connection's limits of time: heads that do not come, answers that are not read."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from edgepack.serve.connections import make_protocol

LARGE = 16 << 20  # more than the kernel's buffers take


async def _answer(scope: Any, _receive: Any, send: Any) -> None:
    body = bytes(LARGE if scope["path"] == "/large" else 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port() -> Iterator[int]:
    """A server of three connections, whose limits are 0.3 s."""
    place = socket.create_server(("127.0.0.1", 0))
    kind = make_protocol(4, head_s=0.3, read_s=0.3)
    server = uvicorn.Server(uvicorn.Config(_answer, http=kind, lifespan="off", log_config=None, limit_concurrency=4))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([place])))
    thread.start()
    yield place.getsockname()[1]
    server.should_exit = True
    thread.join(20)


def _connect(port: int, text: bytes) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    made.settimeout(20)
    made.connect(("127.0.0.1", port))
    made.sendall(text)
    return made


def _is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("text", [b"", b"GET / HT"])
def test_a_head_must_come(port: int, text: bytes) -> None:
    with _connect(port, text) as connection:
        assert _is_cut(connection)


def test_a_byte_behind_an_answer_does_not_keep_a_connection(port: int) -> None:
    with _connect(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        while not connection.recv(4096).endswith(b"\0\0"):
            pass
        connection.sendall(b"G")
        assert _is_cut(connection)


def test_an_answer_must_be_read(port: int) -> None:
    with _connect(port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        threading.Event().wait(1.5)
        came = 0
        try:
            while piece := connection.recv(1 << 20):
                came += len(piece)
        except ConnectionResetError:
            pass
        assert came < LARGE


def test_an_answer_that_is_read_comes_whole(port: int) -> None:
    with _connect(port, b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as connection:
        came = 0
        while piece := connection.recv(1 << 16):
            came += len(piece)
        assert came > LARGE


def test_the_oldest_that_waits_makes_room(port: int) -> None:
    held = [_connect(port, b"G") for _ in range(5)]
    try:
        with _connect(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for each in held:
            each.close()
