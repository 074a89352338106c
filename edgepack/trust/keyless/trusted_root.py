"""The trusted root of a Sigstore instance: whose certificates, logs and timestamps count, and of which time.

It is ``trusted_root.json``, as Sigstore's tools have it and as ``cosign trusted-root create`` makes it for an instance
of one's own. Who runs the device puts it there and renews it; nothing is fetched. Keys that are of no kind known here
stay in it and vouch for nothing.
Source: sigstore/protobuf-specs, sigstore_trustroot.proto (0.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgepack.base import documents
from edgepack.base.files import read_regular
from edgepack.errors import ConfigError, ToolchainError
from edgepack.trust.envelope import from_base64
from edgepack.trust.keys import refuse_writable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

LIMIT_BYTES = 1 << 20
_KIND = "application/vnd.dev.sigstore.trustedroot"
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
_AGAIN = "get it again: it is what 'sigstore trusted-root' or 'cosign trusted-root create' writes"


@dataclass(frozen=True)
class Period:
    """When something counts: from ``start`` to ``end``, both counted; None is for ever."""

    start: datetime
    end: datetime | None

    def holds(self, moment: datetime) -> bool:
        """Say whether a moment is in it."""
        return self.start <= moment and (self.end is None or moment <= self.end)


@dataclass(frozen=True)
class LogKey:
    """The key of a log and the log's id; the key is None where it is of another kind than ECDSA or Ed25519."""

    id: bytes
    key: Any
    period: Period

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Say whether ``signature`` is the log's over ``message``."""
        return self.key is not None and verifies(self.key, signature, message)


@dataclass(frozen=True)
class Authority:
    """An authority's certificates: the one that issues (or stamps) first, its own issuer last."""

    certificates: tuple[Certificate, ...]
    period: Period


@dataclass(frozen=True)
class TrustedRoot:
    """What counts: logs of signatures, authorities, logs of certificates, and timestamp authorities."""

    logs: tuple[LogKey, ...]
    authorities: tuple[Authority, ...]
    certificate_logs: tuple[LogKey, ...]
    timestamp_authorities: tuple[Authority, ...]


def read_trusted_root(path: Path) -> TrustedRoot:
    """Return the trusted root in a file. Raises ``ConfigError``; ``StorageError`` where others may write it."""
    try:
        text = read_regular(path, LIMIT_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the trusted root {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="put Sigstore's trusted_root.json there",
        ) from None
    refuse_writable(path)
    return parse_trusted_root(text, str(path))


def parse_trusted_root(text: bytes, where: str) -> TrustedRoot:
    """Return the trusted root in ``text``. Raises ``ConfigError``."""
    try:
        data = documents.read_json(text)
        if not str(data["mediaType"]).startswith(_KIND):
            raise ValueError("it is another document")
        found = TrustedRoot(
            tuple(map(_log, data.get("tlogs", []))),
            tuple(map(_authority, data.get("certificateAuthorities", []))),
            tuple(map(_log, data.get("ctlogs", []))),
            tuple(map(_authority, data.get("timestampAuthorities", []))),
        )
        for problem in _problems(found):
            raise ValueError(problem)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where} is not a trusted root: {_words(error)}", hint=_AGAIN) from None
    return found


def verifies(key: Any, signature: bytes, message: bytes, hash_name: str = "SHA256") -> bool:
    """Say whether ``signature`` is that of a key of ECDSA (with this hash) or Ed25519 over ``message``."""
    ec, ed25519, hashes, invalid = (used := tools()).ec, used.ed25519, used.hashes, used.invalid
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(getattr(hashes, hash_name)()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            return False
    except invalid:
        return False
    return True


def _problems(found: TrustedRoot) -> Iterator[str]:
    if not found.logs:
        yield "it names no log"
    if not found.authorities:
        yield "it names no certificate authority"
    if any(not each.certificates for each in (*found.authorities, *found.timestamp_authorities)):
        yield "an authority has no certificate"


def _log(data: Any) -> LogKey:
    if data.get("hashAlgorithm", "SHA2_256") != "SHA2_256":
        raise ValueError(f"a log has the hash {str(data['hashAlgorithm'])[:40]!r}")
    key = data["publicKey"]
    return LogKey(from_base64(data["logId"]["keyId"]), _key(from_base64(key["rawBytes"])), _period(key["validFor"]))


def _key(data: bytes) -> Any:
    ec, ed25519, serialization = (used := tools()).ec, used.ed25519, used.serialization
    try:
        key = serialization.load_der_public_key(data)
    except Exception:  # of several kinds, by what is wrong with the key
        return None
    return key if isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)) else None


def _authority(data: Any) -> Authority:
    x509 = tools().x509
    listed: Iterable[Any] = data["certChain"]["certificates"]
    certificates = tuple(x509.load_der_x509_certificate(from_base64(each["rawBytes"])) for each in listed)
    return Authority(certificates, _period(data["validFor"]))


def _period(data: Any) -> Period:
    end = data.get("end")
    return Period(_time(data["start"]), _time(end) if end is not None else None)


def _time(text: str) -> datetime:
    """Return a time as protobuf's JSON has it. Raises ``ValueError``."""
    if not (match := _TIME.fullmatch(text)):
        raise ValueError(f"{text[:40]!r} is not a time such as 2026-12-01T00:00:00Z")
    utc = timezone.utc  # noqa: UP017 (Python 3.10)
    moment = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=utc)
    return moment + timedelta(microseconds=int((match[2] or "0").ljust(6, "0")[:6]))


def _words(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)[:200]


class Tools(NamedTuple):
    """Parts of ``cryptography``; ``invalid`` is what it raises for a signature that is wrong."""

    ec: Any
    ed25519: Any
    hashes: Any
    invalid: Any
    serialization: Any
    x509: Any


def tools() -> Tools:
    """Return what of ``cryptography`` is used here. Raises ``ToolchainError`` where it is not installed."""
    try:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    except ImportError as error:
        raise ToolchainError(
            f"keyless signatures cannot be checked here: {error}", hint="pip install 'edgepack[verify]'"
        ) from None
    return Tools(ec, ed25519, hashes, InvalidSignature, serialization, x509)
