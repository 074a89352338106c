"""Signatures by keys, in the member ``signature.dsse.json``: an in-toto statement in a DSSE envelope.

It is what OpenSSF's model signing writes: a Sigstore bundle (version 0.3) with a public key's hint, or with
certificates: ``model_signing verify key`` and ``verify certificate`` take it as it stands for the unpacked bundle. More
signatures than one follow the first in the envelope, each with its key's id. Like the zip around it, it has one
possible form: it is written again from what was read, and compared. Keyless signatures may follow (``member.py``).
Sources: secure-systems-lab/dsse, protocol.md 1.0; sigstore/protobuf-specs, sigstore_bundle.proto.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass

from edgepack.base import documents
from edgepack.bundle.archive import SIGNATURE_LIMIT_BYTES
from edgepack.bundle.layout import SIGNATURE
from edgepack.errors import ConfigError, TrustError
from edgepack.trust.chain import MOST
from edgepack.trust.keys import PrivateKey, PublicKey, is_signed_by

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MOST_SIGNATURES = 16
_AGAIN = "sign the bundle again with 'edgepack sign'"


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope; ``keyid`` says with which key it is checked."""

    keyid: str
    sig: str


@dataclass(frozen=True)
class Envelope:
    """A payload and who signed it; ``certificates`` (DER) are the signers' and those between them and an authority."""

    payload: bytes
    signatures: tuple[Signature, ...]
    certificates: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class _KeyHint:
    hint: str


@dataclass(frozen=True)
class _Material:
    publicKey: _KeyHint  # noqa: N815 (the format's own names)
    tlogEntries: tuple[str, ...] = ()  # noqa: N815


@dataclass(frozen=True)
class Certificate:
    """A certificate, DER."""

    rawBytes: str  # noqa: N815


@dataclass(frozen=True)
class _Certificates:
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True)
class _CertifiedMaterial:
    x509CertificateChain: _Certificates  # noqa: N815
    tlogEntries: tuple[str, ...] = ()  # noqa: N815


@dataclass(frozen=True)
class _Dsse:
    payload: str
    payloadType: str  # noqa: N815
    signatures: tuple[Signature, ...]


@dataclass(frozen=True)
class SigstoreBundle:
    """The document that the member ``SIGNATURE`` holds."""

    mediaType: str  # noqa: N815
    verificationMaterial: _Material | _CertifiedMaterial  # noqa: N815
    dsseEnvelope: _Dsse  # noqa: N815


def signed(
    payload: bytes,
    keys: Iterable[PrivateKey],
    others: tuple[Signature, ...] = (),
    certificates: tuple[bytes, ...] = (),
) -> Envelope:
    """Return the payload signed by ``keys``, beside ``others``; a key that has signed already signs anew."""
    message = pre_authentication(PAYLOAD_TYPE, payload)
    new = {key.public.id: to_base64(key.sign(message)) for key in keys}
    kept = tuple(signature for signature in others if signature.keyid not in new)
    return Envelope(payload, (*kept, *(Signature(keyid, sig) for keyid, sig in new.items())), certificates)


def signers(envelope: Envelope, trusted: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    """Return which of the trusted keys signed the payload, each once, by the signature that bears the key's id."""
    message = pre_authentication(PAYLOAD_TYPE, envelope.payload)
    named = {each.keyid: from_base64(each.sig) for each in envelope.signatures}
    return tuple(key for key in trusted if key.id in named and is_signed_by(key, named[key.id], message))


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """Return what is signed: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def to_bytes(envelope: Envelope) -> bytes:
    """Return the one form that the member has. Raises ``ConfigError`` when it would be too large to be read."""
    if len(envelope.signatures) > MOST_SIGNATURES:
        raise ConfigError(f"a bundle has at most {MOST_SIGNATURES} signatures", hint="sign it again with --replace")
    if len(set(envelope.certificates)) != len(envelope.certificates) or len(envelope.certificates) > MOST:
        raise ConfigError(f"a bundle has at most {MOST} certificates, each once", hint="sign it again with --replace")
    found = SigstoreBundle(
        MEDIA_TYPE,
        _material(envelope),
        _Dsse(to_base64(envelope.payload), PAYLOAD_TYPE, envelope.signatures),
    )
    text = json.dumps(documents.encode(found), separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
    if len(text) > SIGNATURE_LIMIT_BYTES:
        raise ConfigError(f"the signature has {len(text)} bytes; at most {SIGNATURE_LIMIT_BYTES} are read")
    return text


def from_bytes(text: bytes, where: str) -> Envelope:
    """Return what the member holds. Raises ``TrustError`` for anything but the one form of it."""
    try:
        found = documents.from_json(SigstoreBundle, text, f"{where}: {SIGNATURE}")
        envelope = Envelope(
            from_base64(found.dsseEnvelope.payload), found.dsseEnvelope.signatures, _held(found.verificationMaterial)
        )
        names = {each.keyid for each in envelope.signatures}
        for each in envelope.signatures:
            from_base64(each.sig)
        whole = 0 < len(envelope.signatures) == len(names) and to_bytes(envelope) == text
    except (ConfigError, ValueError) as error:
        raise TrustError(f"{where}: {SIGNATURE} cannot be read: {str(error)[:300]}", hint=_AGAIN) from None
    if not whole:
        raise TrustError(f"{where}: {SIGNATURE} is not in the form that 'edgepack sign' writes", hint=_AGAIN)
    return envelope


def _material(envelope: Envelope) -> _Material | _CertifiedMaterial:
    if not envelope.certificates:
        return _Material(_KeyHint(envelope.signatures[0].keyid))
    return _CertifiedMaterial(_Certificates(tuple(Certificate(to_base64(each)) for each in envelope.certificates)))


def _held(material: _Material | _CertifiedMaterial) -> tuple[bytes, ...]:
    if isinstance(material, _Material):
        return ()
    return tuple(from_base64(each.rawBytes) for each in material.x509CertificateChain.certificates)


def to_base64(data: bytes) -> str:
    """Return bytes as the format has them."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """Return the bytes of a text. Raises ``ValueError`` for what is not base64, or not in its one form."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is not base64: {error}") from None
    if to_base64(data) != text:
        raise ValueError("it is not base64 in its one form")
    return data
