"""A real S3 server on loopback (moto's, in a process of its own)."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from ssh_server import free_port

BUCKET, PROTOCOL = "builds", "s3"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Run the server with one empty bucket and yield its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(port)
        assert ask(port, "PUT", f"/{BUCKET}") == 200
        yield port
    finally:
        process.kill()
        process.wait()


def empty(port: int) -> None:
    """Let the server forget everything, and make the bucket again."""
    assert ask(port, "POST", "/moto-api/reset") == 200
    assert ask(port, "PUT", f"/{BUCKET}") == 200


def use(port: int) -> dict[str, str]:
    """Return the environment of a client of the server at ``port``."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "HOME": os.environ.get("HOME", "/")}


def ask(port: int, method: str, path: str, body: bytes | None = None) -> int:
    """Return the status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    status = connection.getresponse().status
    connection.close()
    return status


def wait(port: int) -> None:
    """Wait for a server that begins."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not start")
