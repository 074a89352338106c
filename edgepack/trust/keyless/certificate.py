"""The certificate of a keyless signature: who it was made for, by which word, and that a certificate log has it.

Sources: Fulcio's certificate specification and its table of extensions (fulcio/docs/oid-info.md); RFC 6962, 3.2 and 3.3
(signed certificate timestamps).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgepack.errors import ToolchainError
from edgepack.trust.chain import path_to, signing_key
from edgepack.trust.keyless import der
from edgepack.trust.keyless.trusted_root import tools

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from edgepack.trust.keyless.trusted_root import Authority, LogKey
    from edgepack.trust.keys import PublicKey

_FULCIO = "1.3.6.1.4.1.57264.1."
_ISSUER_TEXT, _OTHER_NAME, _ISSUER = _FULCIO + "1", _FULCIO + "7", _FULCIO + "8"
_CODE_SIGNING = "1.3.6.1.5.5.7.3.3"


@dataclass(frozen=True)
class Identity:
    """Who signed: an address or a workflow's name, and the ``issuer`` that says so, both compared letter by letter.

    ``{"identity": "me@example.com", "issuer": "https://accounts.google.com"}``.
    """

    identity: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.identity} ({self.issuer})"


def read_certificate(data: bytes) -> Certificate:
    """Return a certificate of DER. Raises ``ValueError``."""
    try:
        found: Certificate = tools().x509.load_der_x509_certificate(data)
    except Exception:  # of several kinds, by what is wrong with it
        raise ValueError("its certificate cannot be read") from None
    return found


def key_of(leaf: Certificate, identity: Identity) -> PublicKey:
    """Return the key of a certificate that is for signing code. Raises ``ValueError`` for another one."""
    x509 = tools().x509
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if _CODE_SIGNING not in {each.dotted_string for each in uses}:
            raise ValueError("another use")
        return signing_key(leaf, identity.identity)
    except ToolchainError:
        raise
    except Exception:  # no such extension, another kind of key
        raise ValueError("its certificate is not for signing code with a key on P-256") from None


def identity_of(leaf: Certificate) -> Identity:
    """Return whom a certificate is for. Raises ``ValueError`` where it does not say so, or says two things."""
    x509 = tools().x509
    try:
        (name,) = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = Identity(_name(name), _issuer(leaf))
    except Exception:  # no such extension, one that cannot be read, more names than one
        raise ValueError("its certificate does not say whose it is") from None
    if not found.identity or not found.issuer:
        raise ValueError("its certificate does not say whose it is")
    return found


def issuer_at(leaf: Certificate, authorities: Sequence[Authority], moments: Sequence[datetime]) -> Certificate:
    """Return the certificate of who issued ``leaf``, where one authority vouches for it at each moment.

    Raises ``ValueError`` where none does.
    """
    for authority in authorities:
        *between, root = authority.certificates
        paths = [path_to([root], leaf, between, moment) for moment in moments if authority.period.holds(moment)]
        if len(paths) == len(moments) and all(paths):
            return paths[0][1]  # type: ignore[index]
    raise ValueError("no trusted authority vouches for its certificate at the time that it was logged")


def check_logged(leaf: Certificate, issuer: Certificate, logs: Sequence[LogKey]) -> None:
    """Raise ``ValueError`` where none of the certificate logs has signed that it has the certificate."""
    x509 = tools().x509
    try:
        stamps = list(leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value)
    except Exception:  # no such extension, or one that cannot be read
        stamps = []
    for stamp in stamps:
        moment = _moment_of(stamp)
        for log in logs:
            counts = moment is not None and log.id == stamp.log_id and log.period.holds(moment)
            if counts and _is_stamped(leaf, issuer, stamp, log):
                return
    raise ValueError("no trusted log of certificates has signed that it has its certificate")


def _moment_of(stamp: Any) -> datetime | None:
    """Return when a timestamp was made; None for a time that no calendar has."""
    try:
        moment: datetime = stamp.timestamp.replace(tzinfo=timezone.utc)  # noqa: UP017 (Python 3.10)
    except (ValueError, OverflowError):
        return None
    return moment


def _is_stamped(leaf: Certificate, issuer: Certificate, stamp: Any, log: LogKey) -> bool:
    """Say whether a timestamp is the log's over the certificate before it held the timestamp (RFC 6962, 3.2)."""
    hashes, serialization = (used := tools()).hashes, used.serialization
    if stamp.version.value != 0 or not isinstance(stamp.signature_hash_algorithm, hashes.SHA256):
        return False
    public = issuer.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body, extensions = leaf.tbs_precertificate_bytes, stamp.extension_bytes
    since = stamp.timestamp.replace(tzinfo=timezone.utc) - _EPOCH  # noqa: UP017 (Python 3.10)
    milliseconds = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    message = (
        b"\0\0" + milliseconds.to_bytes(8, "big") + b"\0\1" + hashlib.sha256(public).digest()
        + len(body).to_bytes(3, "big") + body + len(extensions).to_bytes(2, "big") + extensions
    )  # fmt: skip
    return log.signed(stamp.signature, message)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 (Python 3.10)


def _name(name: Any) -> str:
    """Return a subject's alternative name; what is not an address, URI or Fulcio's own kind is none."""
    x509 = tools().x509
    if isinstance(name, (x509.RFC822Name, x509.UniformResourceIdentifier)):
        return str(name.value)
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _OTHER_NAME:
        return _text(name.value)
    raise ValueError("another kind of name")


def _issuer(leaf: Certificate) -> str:
    """Return the one issuer that the certificate names, in the newer extension, the older one, or both."""
    said = {each.oid.dotted_string: each.value.value for each in leaf.extensions if each.oid.dotted_string in _ISSUERS}
    texts = {_text(data) if oid == _ISSUER else data.decode("utf-8") for oid, data in said.items()}
    (text,) = texts
    return text


_ISSUERS = (_ISSUER_TEXT, _ISSUER)


def _text(data: bytes) -> str:
    """Return a text of DER. Raises ``ValueError``."""
    return der.read(data).of(der.UTF8).content.decode("utf-8")
