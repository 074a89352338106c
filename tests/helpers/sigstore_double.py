"""A double of Sigstore: its certificate authority, its logs and its timestamp authority, with keys made in the test.

It gives what the public instance gives, in the same formats; the proofs are made by RFC 6962's recursive definition,
which the verifier does not follow. Everything that a signature is made of can be given otherwise, to forge it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID as Uses
from trust_cases import DAY, NOW, Holder, issue

from edgepack.bundle.archive import open_bundle
from edgepack.trust.envelope import MEDIA_TYPE, PAYLOAD_TYPE, pre_authentication
from edgepack.trust.statement import Signed, make

UTC = timezone.utc  # noqa: UP017 (Python 3.10)
ME, ISSUER = "me@example.com", "https://accounts.example.com"
WORKFLOW = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/v1"
AT = NOW - 200 * DAY
_ISSUER_TEXT, _ISSUER_UTF8 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{n}") for n in (1, 8))
_STAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_DER, _SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def public_der(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(_DER, _SPKI))


def sign(key: Any, message: bytes, kind: Any = None) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return bytes(key.sign(message, ec.ECDSA(kind or hashes.SHA256())))


# --- Merkle trees (RFC 6962, 2.1, as it defines them) -----------------------------------------------------------------


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = _split(len(leaves))
    return hashlib.sha256(b"\1" + tree(leaves[:k]) + tree(leaves[k:])).digest()


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), tree(leaves[k:])]
    return [*path(index - k, leaves[k:]), tree(leaves[:k])]


def _split(n: int) -> int:
    """Return the largest power of 2 below ``n``."""
    return 1 << (n - 1).bit_length() - 1


# --- the log ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Log:
    """A log of signatures: of ECDSA and with signed times, as Rekor 1, or of Ed25519 and without, as Rekor 2."""

    key: Any
    name: str = "log.example.com"
    others: int = 4  # entries before this one, and after it

    @property
    def id(self) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):  # C2SP signed-note
            raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return hashlib.sha256(self.name.encode() + b"\n\x01" + raw).digest()
        return hashlib.sha256(public_der(self.key)).digest()

    def checkpoint(self, size: int, root: bytes) -> str:
        text = f"{self.name} - 17\n{size}\n{text64(root)}\n"
        return f"{text}\n\u2014 {self.name} {text64(self.id[:4] + sign(self.key, text.encode()))}\n"

    def entry(self, body: bytes, kind: tuple[str, str], at: datetime) -> dict[str, Any]:
        leaves = [b"entry %d" % i for i in range(self.others)] + [body] + [b"later"] * self.others
        index = self.others
        made: dict[str, Any] = {
            "logIndex": str(1000 + index),
            "logId": {"keyId": text64(self.id)},
            "kindVersion": {"kind": kind[0], "version": kind[1]},
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": text64(tree(leaves)),
                "treeSize": str(len(leaves)),
                "hashes": [text64(each) for each in path(index, leaves)],
                "checkpoint": {"envelope": self.checkpoint(len(leaves), tree(leaves))},
            },
            "canonicalizedBody": text64(body),
        }
        if not isinstance(self.key, ed25519.Ed25519PrivateKey):
            made["integratedTime"] = str(int(at.timestamp()))
            made["inclusionPromise"] = {"signedEntryTimestamp": text64(self.promise(made))}
        return made

    def promise(self, entry: dict[str, Any]) -> bytes:
        said = {
            "body": entry["canonicalizedBody"], "integratedTime": int(entry["integratedTime"]),
            "logID": self.id.hex(), "logIndex": int(entry["logIndex"]),
        }  # fmt: skip
        return sign(self.key, json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


# --- timestamps -------------------------------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x80 + (size.bit_length() + 7) // 8])
    return bytes([tag]) + length + (b"" if size < 128 else size.to_bytes((size.bit_length() + 7) // 8, "big")) + content


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    out = bytes([40 * first + second])
    for number in rest:
        piece = bytes([number & 0x7F])
        while number := number >> 7:
            piece = bytes([0x80 | number & 0x7F]) + piece
        out += piece
    return der(6, out)


_HASHES = {name: f"2.16.840.1.101.3.4.2.{n}" for n, name in ((1, "sha256"), (2, "sha384"), (3, "sha512"))}
_TIMESTAMP = "1.2.840.113549.1.9.16.1.4"
_ECDSA = der(0x30, oid("1.2.840.10045.4.3.2"))


def _number(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def stamp(authority: Holder, message: bytes, at: datetime, **other: Any) -> bytes:
    """Return a timestamp authority's answer on ``message`` (RFC 3161)."""
    hashed = other.get("hash", hashes.SHA256())
    digest = lambda data: der(4, hashlib.new(hashed.name, data).digest())  # noqa: E731
    kind = other.get("hash_kind") or der(0x30, oid(_HASHES[hashed.name]))
    time = other.get("time") or other.get("when", at).strftime("%Y%m%d%H%M%SZ").encode()
    imprint = other.get("imprint") or der(
        0x30, other.get("imprint_kind") or kind, digest(other.get("stamped", message))
    )
    policy, nonce = oid("1.3.6.1.4.1.57264.2"), other.get("nonce", b"")
    info = der(0x30, der(2, b"\1"), policy, imprint, der(2, b"\x11"), der(0x18, time), nonce)
    certificate = der(0x30, der(0x30, der(0x30, der(4, hashlib.sha256(authority.der()).digest()))))
    said = [
        ("3", oid(other.get("attributes_of", _TIMESTAMP))),
        ("4", digest(other.get("digested", info))),
        ("16.2.47", certificate),
        *other.get("more", ()),
    ]
    if "without" in other:
        said = [each for each in said if each[0] != other["without"]]
    attributes = b"".join(der(0x30, oid(f"1.2.840.113549.1.9.{n}"), der(0x31, value)) for n, value in said)
    signature = sign(other.get("key", authority.key), der(0x31, attributes), hashed)
    whose = der(0x30, authority.certificate.issuer.public_bytes(), der(2, _number(authority.certificate.serial_number)))
    signer = der(0x30, der(2, b"\1"), whose, kind, der(0xA0, attributes), _ECDSA, der(4, signature))
    content = der(0x30, oid(other.get("content", _TIMESTAMP)), der(0xA0, der(4, info)))
    signers = der(0x31, signer * other.get("signers", 1))
    data = der(0x30, der(2, b"\3"), der(0x31, kind), content, signers)
    token = der(0x30, oid(other.get("token", "1.2.840.113549.1.7.2")), der(0xA0, data))
    return der(0x30, der(0x30, der(2, other.get("status", b"\0"))), token)


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sigstore:
    """An instance: what it has and what its trusted root says of it."""

    root: Holder = dataclasses.field(default_factory=lambda: issue("sigstore", ca=True, days=(-900, 900)))
    middle: Holder = None  # type: ignore[assignment]
    log: Log = dataclasses.field(default_factory=lambda: Log(ec.generate_private_key(ec.SECP256R1())))
    tiled: Log = dataclasses.field(
        default_factory=lambda: Log(ed25519.Ed25519PrivateKey.generate(), "tiled.example.com", 0)
    )
    certificate_log: Any = dataclasses.field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    stamping: Holder = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.middle = issue("intermediate", self.root, ca=True, length=0, days=(-900, 900))
        self.stamping = issue("stamping", self.root, days=(-900, 900), uses=[Uses.TIME_STAMPING])

    def certificate(self, identity: str = ME, issuer: str = ISSUER, at: datetime = AT, **other: Any) -> Holder:
        """Return a key with a certificate of ten minutes from ``at``."""
        key = other.get("key") or ec.generate_private_key(other.get("curve", ec.SECP256R1()))
        public = other.get("public") or key.public_key()
        by = other.get("by", self.middle)
        name = (
            x509.RFC822Name(identity)
            if "@" in identity and "/" not in identity
            else x509.UniformResourceIdentifier(identity)
        )
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(by.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + timedelta(minutes=10))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
        )
        signs = other.get("signs", True)
        for extension in (
            x509.KeyUsage(digital_signature=signs, **usage) if signs is not None else None,
            x509.ExtendedKeyUsage(uses) if (uses := other.get("uses", [Uses.CODE_SIGNING])) else None,
            x509.SubjectAlternativeName(names) if (names := other.get("names", [name])) else None,
            x509.BasicConstraints(ca=True, path_length=None) if other.get("ca") else None,
        ):
            if extension is not None:
                builder = builder.add_extension(extension, critical=not isinstance(extension, x509.ExtendedKeyUsage))
        texts = {_ISSUER_TEXT: issuer.encode(), _ISSUER_UTF8: der(12, issuer.encode()), **other.get("texts", {})}
        for name_of, value in texts.items():
            if value is not None:
                builder = builder.add_extension(x509.UnrecognizedExtension(name_of, value), critical=False)
        bare = builder.sign(by.key, hashes.SHA256())
        if stamps := other.get("stamps", [self.certificate_log]):
            made = [self._stamp(each, bare, at, other.get("stamped_by", by)) for each in stamps]
            made = [other.get("stamp_as", bytes)(each) for each in made]
            listed = b"".join(len(each).to_bytes(2, "big") + each for each in made)
            value = der(4, len(listed).to_bytes(2, "big") + listed)
            bare = builder.add_extension(x509.UnrecognizedExtension(_STAMPS, value), critical=False).sign(
                by.key, hashes.SHA256()
            )
        return Holder(x509.Name([]), key, bare)

    def _stamp(self, key: Any, bare: x509.Certificate, at: datetime, by: Holder) -> bytes:
        """Return a signed certificate timestamp (RFC 6962, 3.2)."""
        time = int(at.timestamp() * 1000).to_bytes(8, "big")
        body = bare.tbs_certificate_bytes
        message = b"\0\0" + time + b"\0\1" + hashlib.sha256(public_der(by.key)).digest()
        message += len(body).to_bytes(3, "big") + body + b"\0\0"
        signature = sign(key, message)
        head = b"\0" + hashlib.sha256(public_der(key)).digest() + time + b"\0\0\4\3"
        return head + len(signature).to_bytes(2, "big") + signature

    def signed(self, payload: bytes, holder: Holder | None = None, at: datetime = AT, **other: Any) -> dict[str, Any]:
        """Return the Sigstore bundle of a signature that was logged a minute after ``at``."""
        holder = holder or self.certificate(at=at)
        logged = other.get("logged", at + timedelta(minutes=1))
        signature = sign(other.get("key", holder.key), pre_authentication(PAYLOAD_TYPE, payload))
        log = other.get("log", self.log)
        body = (_hashed if log is self.tiled else dsse_body)(payload, signature, holder.pem(), holder.der())
        kind = ("hashedrekord", "0.0.2") if log is self.tiled else ("dsse", "0.0.1")
        material: dict[str, Any] = {
            "certificate": {"rawBytes": text64(holder.der())},
            "tlogEntries": [log.entry(other.get("body", body), kind, logged)],
        }
        if log is self.tiled or other.get("stamp"):
            answer = stamp(self.stamping, signature, logged, **other.get("stamp", {}))
            material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": text64(answer)}]}
        return {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": text64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": text64(signature)}],
            },
        }  # fmt: skip

    def sign_bundle(self, bundle: Path, out: Path, *args: Any, **other: Any) -> Path:
        """Write a keyless signature over a bundle, as ``model_signing`` would over the unpacked one."""
        statement = json.loads(make(open_bundle(bundle), Signed("2026-01-01T00:00:00Z")))
        for ours in ("edgepack", "provenance"):
            del statement["predicate"][ours]
        out.write_text(json.dumps(self.signed(json.dumps(statement).encode(), *args, **other)))
        return out

    def trusted_root(self, **other: Any) -> dict[str, Any]:
        """Return the document that devices have."""
        period = {"start": f"{AT - 400 * DAY:%Y-%m-%dT%H:%M:%SZ}"}

        def log(key: Any, log_id: bytes) -> dict[str, Any]:
            kind = "PKIX_ED25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "PKIX_ECDSA_P256_SHA_256"
            public = {"rawBytes": text64(public_der(key)), "keyDetails": kind, "validFor": dict(period)}
            return {
                "baseUrl": "https://log.example.com", "hashAlgorithm": "SHA2_256", "publicKey": public,
                "logId": {"keyId": text64(log_id)},
            }  # fmt: skip

        def authority(*holders: Holder) -> dict[str, Any]:
            chain = {"certificates": [{"rawBytes": text64(each.der())} for each in holders]}
            return {
                "subject": {"organization": "example.com", "commonName": "sigstore"}, "uri": "https://ca.example.com",
                "certChain": chain, "validFor": dict(period),
            }  # fmt: skip

        certificate_log = hashlib.sha256(public_der(self.certificate_log)).digest()
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log.key, self.log.id), log(self.tiled.key, self.tiled.id)],
            "certificateAuthorities": [authority(self.middle, self.root)],
            "ctlogs": [log(self.certificate_log, certificate_log)],
            "timestampAuthorities": [authority(self.stamping, self.root)],
            **other,
        }


def dsse_body(payload: bytes, signature: bytes, pem: bytes, _der: bytes = b"") -> bytes:
    spec = {
        "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
        "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
        "signatures": [{"signature": text64(signature), "verifier": text64(pem)}],
    }
    return json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}, separators=(",", ":")).encode()


def _hashed(payload: bytes, signature: bytes, _pem: bytes, certificate: bytes) -> bytes:
    digest = hashlib.sha256(pre_authentication(PAYLOAD_TYPE, payload)).digest()
    verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": text64(certificate)}}
    spec = {
        "data": {"algorithm": "SHA2_256", "digest": text64(digest)},
        "signature": {"content": text64(signature), "verifier": verifier},
    }
    return json.dumps(
        {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}}, separators=(",", ":")
    ).encode()
