"""A server of Google Cloud Storage's interface on loopback (gcp-storage-emulator, in a process of its own)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

from s3_server import BUCKET, ask, wait
from ssh_server import free_port

PROTOCOL = "gs"


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Run the server with one empty bucket and yield its port."""
    port = free_port()
    words = ["-m", "gcp_storage_emulator", "start", "-H", "127.0.0.1", "--port", str(port), "--in-memory", "-q"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait(port)
        _make_bucket(port)
        yield port
    finally:
        process.kill()
        process.wait()


def empty(port: int) -> None:
    """Let the server forget everything, and make the bucket again."""
    assert ask(port, "GET", "/wipe") == 200
    _make_bucket(port)


def use(port: int) -> dict[str, str]:
    """Return the environment of a client of the server at ``port``."""
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "none", "NO_GCE_CHECK": "true"}


def _make_bucket(port: int) -> None:
    assert ask(port, "POST", "/storage/v1/b", json.dumps({"name": BUCKET}).encode()) == 200
