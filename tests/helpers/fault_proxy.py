"""A proxy on loopback before a server of objects (S3's, Google's) that makes faults."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Faults:
    """What the proxy does: each is a function of (method, path), as `meant` gives them, that says whether to do it."""

    error: Callable[[str, str], bool] = lambda _m, _p: False  # 503, as S3 says "slow down"
    cut: Callable[[str, str], bool] = lambda _m, _p: False  # the answer ends in its middle
    lose: Callable[[str, str], bool] = lambda _m, _p: False  # it is answered 200 and not done
    change: Callable[[str, str], bool] = lambda _m, _p: False  # one byte of the answer is another one
    slow_s: float = 0.0
    seen: list[tuple[str, str]] = field(default_factory=list)


def meant(method: str, path: str, body: bytes) -> tuple[str, str]:
    """Return a request as S3 writes it, (method, path): Google's uploads are POST, and their name is in the body."""
    name = _UPLOADED.match(body) if method == "POST" and path.startswith("/upload/") else None
    return ("PUT", f"{path}/{name[1].decode()}") if name else (method, path)


@contextlib.contextmanager
def proxy(port: int, faults: Faults) -> Iterator[int]:
    """Run the proxy before the server at ``port`` and yield its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            verb, path = meant(self.command, self.path.partition("?")[0], body)
            faults.seen.append((verb, path))
            time.sleep(faults.slow_s)
            if faults.error(verb, path):
                self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
                return
            if faults.lose(verb, path):
                self._answer(200, {"ETag": '"0"', "Content-Type": "application/json"}, b"{}")
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
            if data and faults.change(verb, path):
                data = data[:-1] + bytes([data[-1] ^ 1])
                kept = {k: v for k, v in kept.items() if "checksum" not in k.lower()}  # the server's own would tell
            self._answer(answer.status, kept, data, cut=bool(data) and faults.cut(verb, path))

        def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(ConnectionError):  # whoever asked did not wait
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
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


_OWN = {"content-length", "transfer-encoding", "connection", "date", "server"}
_UPLOADED = re.compile(rb'[^{]*\{"name": "([^"]+)"')
_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
