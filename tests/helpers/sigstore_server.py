"""The double of Sigstore on loopback, as its clients ask it: certificates, timestamps, entries of the log."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sigstore_double import UTC, Sigstore, dsse_body, stamp

from edgepack.trust.keyless import der


def token(email: str, issuer: str) -> str:
    """Return an identity token, whose signature nobody looks at here."""
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": issuer, "aud": "sigstore", "email": email, "email_verified": True, "sub": email,
        "iat": now - 5, "nbf": now - 5, "exp": now + 600,
    }  # fmt: skip
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*texts, "AAAA"))


@contextmanager
def serving(sigstore: Sigstore) -> Iterator[dict[str, Any]]:
    """Serve an instance and give the configuration that clients have of it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = {"/api/v2/signingCert": self.certificate, "/api/v1/log/entries": self.entry, "/stamp": self.stamp}
            data, kind = answer[self.path](body)
            self.answer(201, data, kind)

        def do_GET(self) -> None:
            """Say who is asked for identities, which clients want to know even when they have a token."""
            places = {"authorization_endpoint": "http://127.0.0.1:9/a", "token_endpoint": "http://127.0.0.1:9/t"}
            known = self.path == "/auth/.well-known/openid-configuration"
            self.answer(200 if known else 404, json.dumps(places).encode(), "application/json")

        def answer(self, status: int, data: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def certificate(self, body: bytes) -> tuple[bytes, str]:
            request = x509.load_pem_x509_csr(base64.b64decode(json.loads(body)["certificateSigningRequest"]))
            part = self.headers["Authorization"].removeprefix("Bearer ").split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            at = datetime.now(UTC).replace(microsecond=0)
            made = sigstore.certificate(claims["email"], claims["iss"], at, public=request.public_key())
            chain = [each.public_bytes(Encoding.PEM).decode() for each in (
                made.certificate, sigstore.middle.certificate, sigstore.root.certificate,
            )]  # fmt: skip
            return (
                json.dumps({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}).encode(),
                "application/json",
            )

        def entry(self, body: bytes) -> tuple[bytes, str]:
            content = json.loads(body)["spec"]["proposedContent"]
            envelope = json.loads(content["envelope"])
            (verifier,), (signature,) = content["verifiers"], envelope["signatures"]
            said = dsse_body(
                base64.b64decode(envelope["payload"]), base64.b64decode(signature["sig"]), base64.b64decode(verifier)
            )
            made = sigstore.log.entry(said, ("dsse", "0.0.1"), datetime.now(UTC))
            proof = made["inclusionProof"]
            answer = {
                "body": made["canonicalizedBody"], "integratedTime": int(made["integratedTime"]),
                "logID": sigstore.log.id.hex(), "logIndex": int(made["logIndex"]),
                "verification": {
                    "signedEntryTimestamp": made["inclusionPromise"]["signedEntryTimestamp"],
                    "inclusionProof": {
                        "logIndex": int(proof["logIndex"]), "treeSize": int(proof["treeSize"]),
                        "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                        "hashes": [base64.b64decode(each).hex() for each in proof["hashes"]],
                        "checkpoint": proof["checkpoint"]["envelope"],
                    },
                },
            }  # fmt: skip
            return json.dumps({"0" * 64: answer}).encode(), "application/json"

        def stamp(self, body: bytes) -> tuple[bytes, str]:
            _version, imprint, *more = der.read(body).children(der.SEQUENCE)
            (nonce,) = (each.whole for each in more if each.tag == der.INTEGER)
            at = datetime.now(UTC).replace(microsecond=0)
            return stamp(sigstore.stamping, b"", at, imprint=imprint.whole, nonce=nonce), "application/timestamp-reply"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield configuration(sigstore, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configuration(sigstore: Sigstore, url: str = "http://127.0.0.1:9") -> dict[str, Any]:
    """Return a client's trust configuration."""

    def service(path: str = "") -> list[dict[str, Any]]:
        begin = {"start": "2020-01-01T00:00:00Z"}
        return [{"url": url + path, "majorApiVersion": 1, "validFor": begin, "operator": "example.com"}]

    return {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": sigstore.trusted_root(),
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(), "oidcUrls": service("/auth"), "rekorTlogUrls": service(), "tsaUrls": service("/stamp"),
            "rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"},
        },
    }  # fmt: skip
