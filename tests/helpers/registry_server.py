"""CNCF distribution from Debian's docker-registry on loopback, with passwords and TLS; and a registry with faults."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ssh_server import free_port

REGISTRY = shutil.which("docker-registry")
# bcrypt of "secret", as htpasswd -B writes it.
_PASSWORDS = "user:$2b$04$Kj6/hYYxc3qAV/9HSmR/BOh77fIw7ZSlAcRuk6RehWUmB//REjBbG\n"
_CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
http:
  addr: 127.0.0.1:{port}
  secret: not-one
{tls}
{auth}
"""


@contextlib.contextmanager
def distribution(folder: Path, *, secure: bool = False) -> Iterator[str]:
    """Run the registry until the block ends and yield its host; ``secure``: with TLS and a password."""
    assert REGISTRY is not None
    folder.mkdir()
    port = free_port()
    tls = auth = ""
    if secure:
        certificate(folder)
        (folder / "passwords").write_text(_PASSWORDS)
        tls = f"  tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem}}"
        auth = f"auth:\n  htpasswd: {{realm: registry, path: {folder}/passwords}}"
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=port, tls=tls, auth=auth))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([REGISTRY, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def certificate(folder: Path) -> None:
    """Write a certificate of a private authority for this machine, and its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("test CA", "registry")]
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in names]
    made = []
    for i, name in enumerate(names):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(keys[i].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=i == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[i].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if i:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(made[0])
    (folder / "cert.pem").write_bytes(made[1])
    kind = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(
        keys[1].private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    )


def login(folder: Path, host: str, user: str = "user", password: str = "secret") -> None:
    """Write Docker's configuration with a password for a registry."""
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


class Faulty:
    """A registry of one manifest and its blobs, whose answers a test decides.

    ``answer`` gets each request's handler and says whether it has answered; else the right answer is given. ``seen``
    are the requests with their ``Authorization``.
    """

    def __init__(self, manifest: bytes, blobs: list[bytes]) -> None:
        self.manifest = manifest
        self.blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in blobs}
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], bool] = lambda _: False
        self.seen: list[tuple[str, str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.seen.append((self.command, self.path, self.headers.get("Authorization")))
                with contextlib.suppress(ConnectionError):
                    if not outer.answer(self):
                        outer.right(self)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def right(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        data = self.blobs.get(name, self.manifest if "/manifests/" in request.path else None)
        if data is None:
            send(request, 404, b'{"errors": [{"message": "it is not here"}]}')
            return
        begin = 0
        if asked := request.headers.get("Range"):
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        send(
            request,
            206 if begin else 200,
            data[begin:],
            {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {},
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def send(
    request: http.server.BaseHTTPRequestHandler,
    code: int,
    data: bytes = b"",
    headers: dict[str, str] = {},  # noqa: B006
    length: int | None = None,
) -> None:
    """Answer a request, perhaps with a length that is a lie."""
    request.send_response(code)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(data) if length is None else length))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
