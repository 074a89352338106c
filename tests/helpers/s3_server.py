"""A real S3 server on loopback (moto's, in a process of its own), and a proxy before it that makes faults."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ssh_server import free_port

BUCKET = "builds"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """Run the server with one empty bucket and yield its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        assert _ask(port, "PUT", f"/{BUCKET}") == 200
        yield port
    finally:
        process.kill()
        process.wait()


def empty(port: int) -> None:
    """Let the server forget everything, and make the bucket again."""
    assert _ask(port, "POST", "/moto-api/reset") == 200
    assert _ask(port, "PUT", f"/{BUCKET}") == 200


@dataclass
class Faults:
    """What the proxy does: each is a function of (method, path) that says whether to do it to a request."""

    error: Callable[[str, str], bool] = lambda _m, _p: False  # 500, or 503 as S3 says "slow down"
    cut: Callable[[str, str], bool] = lambda _m, _p: False  # the answer ends in its middle
    lose: Callable[[str, str], bool] = lambda _m, _p: False  # it is answered 200 and not done
    change: Callable[[str, str], bool] = lambda _m, _p: False  # one byte of the answer is another one
    slow_s: float = 0.0
    seen: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def proxy(port: int, faults: Faults) -> Iterator[int]:
    """Run the proxy before the server at ``port`` and yield its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            path = self.path.partition("?")[0]
            faults.seen.append((self.command, path))
            time.sleep(faults.slow_s)
            if faults.error(self.command, path):
                self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
                return
            if faults.lose(self.command, path):
                self._answer(200, {"ETag": '"0"'}, b"")
                return
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            data = answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _OWN}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            server.close()
            if data and faults.change(self.command, path):
                data = data[:-1] + bytes([data[-1] ^ 1])
                kept = {k: v for k, v in kept.items() if "checksum" not in k.lower()}  # S3's own would tell
            self._answer(answer.status, kept, data, cut=bool(data) and faults.cut(self.command, path))

        def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.wfile.flush()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def use(port: int) -> dict[str, str]:
    """Return the environment of a client of the server at ``port``."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "HOME": os.environ.get("HOME", "/")}


_OWN = {"content-length", "transfer-encoding", "connection", "date", "server"}
_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


def _ask(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    status = connection.getresponse().status
    connection.close()
    return status


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("moto's server did not start")
