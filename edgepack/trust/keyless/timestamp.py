"""Answers of timestamp authorities (RFC 3161): when a signature was there already.

Only what an authority of the trusted root has signed counts; the certificate is the root's, never the answer's.
Sources: RFC 3161, 2.4.2; RFC 5652, 5 (signed data) and 11 (its attributes); RFC 5816.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from edgepack.trust.chain import path_to
from edgepack.trust.keyless import der
from edgepack.trust.keyless.trusted_root import verifies

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from edgepack.trust.keyless.trusted_root import Authority

# Identifiers as DER has them: 1.2.840.113549 followed by .1.7.2, .1.9.16.1.4, .1.9.3 and .1.9.4.
_RSA = bytes.fromhex("2a864886f70d")
_SIGNED_DATA, _TIMESTAMP = _RSA + b"\x01\x07\x02", _RSA + b"\x01\x09\x10\x01\x04"
_CONTENT_TYPE, _DIGEST = _RSA + b"\x01\x09\x03", _RSA + b"\x01\x09\x04"
_HASHES = {bytes.fromhex(f"60864801650304020{n}"): name for n, name in ((1, "SHA256"), (2, "SHA384"), (3, "SHA512"))}
_EXPLICIT, _IMPLICIT = 0xA0, 0xA0
_STAMPING = "1.3.6.1.5.5.7.3.8"


@dataclass(frozen=True)
class _Stamp:
    """What an answer says: the hash of what was stamped, when, and what is signed of it."""

    imprint_hash: str
    imprint: bytes
    time: datetime
    message: bytes
    hash_name: str
    signature: bytes


def stamped_at(answer: bytes, message: bytes, authorities: Sequence[Authority]) -> datetime | None:
    """Return when one of ``authorities`` stamped ``message``; None where none of them signed the answer.

    Raises ``ValueError`` for an answer that cannot be read, or that a trusted authority gave for something else.
    """
    try:
        stamp = _read(answer)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"its timestamp cannot be read: {error}") from None
    if not any(_is_by(stamp, authority) for authority in authorities):
        return None
    if hashlib.new(stamp.imprint_hash.lower(), message).digest() != stamp.imprint:
        raise ValueError("its timestamp is of another signature")
    return stamp.time


def _is_by(stamp: _Stamp, authority: Authority) -> bool:
    leaf, *others = authority.certificates
    if not authority.period.holds(stamp.time) or not _is_for_stamping(leaf):
        return False
    if others and path_to(others[-1:], leaf, others[:-1], stamp.time) is None:
        return False
    if not others and not leaf.not_valid_before_utc <= stamp.time <= leaf.not_valid_after_utc:
        return False
    return verifies(leaf.public_key(), stamp.signature, stamp.message, stamp.hash_name)


def _is_for_stamping(leaf: Certificate) -> bool:
    from cryptography import x509

    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except Exception:  # no such extension, or one that cannot be read
        return False
    return [each.dotted_string for each in uses] == [_STAMPING]


def _read(answer: bytes) -> _Stamp:
    """Return what a TimeStampResp says whose status is granted. Raises ``ValueError``."""
    status, token = der.read(answer).children(der.SEQUENCE)
    if status.children(der.SEQUENCE)[0].of(der.INTEGER).content not in (b"\0", b"\1"):
        raise ValueError("it was not granted")
    kind, wrapped = token.children(der.SEQUENCE)
    if kind.of(der.OID).content != _SIGNED_DATA:
        raise ValueError("it is not signed")
    (data,) = wrapped.children(_EXPLICIT)
    _version, _hashes, content, *_certificates, signers = data.children(der.SEQUENCE)
    inner_kind, inner = content.children(der.SEQUENCE)
    if inner_kind.of(der.OID).content != _TIMESTAMP:
        raise ValueError("it is not a timestamp")
    (octets,) = inner.children(_EXPLICIT)
    info = octets.of(der.OCTETS).content
    (signer,) = signers.children(der.SET)
    return _stamp(info, signer)


def _stamp(info: bytes, signer: der.Element) -> _Stamp:
    _version, _whose, hash_kind, attributes, _signature_kind, signature, *_ = signer.children(der.SEQUENCE)
    hash_name = _hash(hash_kind)
    said = {}
    for each in attributes.children(_IMPLICIT):
        name, values = each.children(der.SEQUENCE)
        if name.of(der.OID).content in said:
            raise ValueError("an attribute stands twice")
        said[name.content] = values.children(der.SET)
    (kind,), (digest,) = said.get(_CONTENT_TYPE, ()), said.get(_DIGEST, ())
    if kind.of(der.OID).content != _TIMESTAMP:
        raise ValueError("its attributes are of something else")
    if digest.of(der.OCTETS).content != hashlib.new(hash_name.lower(), info).digest():
        raise ValueError("its attributes are of another time")
    _v, _policy, imprint, _serial, time, *_ = der.read(info).children(der.SEQUENCE)
    imprint_hash, octets = imprint.children(der.SEQUENCE)
    # What is signed is the set of attributes under its own tag, not the one that it has here (RFC 5652, 5.4).
    message = bytes([der.SET]) + attributes.whole[1:]
    return _Stamp(
        _hash(imprint_hash), octets.of(der.OCTETS).content, _time(time), message, hash_name,
        signature.of(der.OCTETS).content,
    )  # fmt: skip


def _hash(kind: der.Element) -> str:
    name = _HASHES.get(kind.children(der.SEQUENCE)[0].of(der.OID).content)
    if name is None:
        raise ValueError("it has an unknown hash")
    return name


def _time(element: der.Element) -> datetime:
    text = element.of(der.TIME).content.decode("ascii")
    whole, dot, fraction = text.removesuffix("Z").partition(".")
    try:
        if not text.endswith("Z") or len(whole) != 14 or not whole.isdecimal() or bool(dot) != fraction.isdecimal():
            raise ValueError(text)
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S")
    except ValueError:
        raise ValueError(f"{text[:30]!r} is not a time") from None
    utc = timezone.utc  # noqa: UP017 (Python 3.10)
    return moment.replace(tzinfo=utc, microsecond=int(fraction.ljust(6, "0")[:6] or 0))
