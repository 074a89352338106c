"""A line of the member ``signature.dsse.json``: a keyless Sigstore bundle 0.3 over a model-signing statement.

It holds a certificate that was made for one signature, the entry of a transparency log, and maybe timestamps. Nothing
here is believed. Like the member, a line has one form: it is written again from what was read, and compared.
Source: sigstore/protobuf-specs, sigstore_bundle.proto and sigstore_rekor.proto (0.5); numbers of 64 bits are texts, and
what is 0 or empty may be left out, as protobuf's JSON has it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from edgepack.base import documents
from edgepack.errors import ConfigError
from edgepack.trust.envelope import MEDIA_TYPE, PAYLOAD_TYPE, Certificate, from_base64

_ALSO = "application/vnd.dev.sigstore.bundle+json;version=0.3"
_OLDER = "application/vnd.dev.sigstore.bundle+json;version="
MOST_HASHES = 64
MOST_TIMESTAMPS = 4
_MOST_NUMBER = (1 << 63) - 1
MOST_LINE_BYTES = 256 << 10
T = TypeVar("T")


@dataclass(frozen=True)
class LogId:
    """Which log: the sha256 of its key, or its key's id in checkpoints."""

    keyId: str  # noqa: N815 (the format's own names)


@dataclass(frozen=True)
class KindVersion:
    """What an entry of the log says, and how."""

    kind: str
    version: str


@dataclass(frozen=True)
class Promise:
    """The log's signature over an entry and the time of it."""

    signedEntryTimestamp: str  # noqa: N815


@dataclass(frozen=True)
class Checkpoint:
    """A signed note on the log's size and root."""

    envelope: str


@dataclass(frozen=True)
class InclusionProof:
    """That the entry is in the log whose checkpoint is here (RFC 6962, 2.1.1)."""

    rootHash: str  # noqa: N815
    treeSize: str  # noqa: N815
    checkpoint: Checkpoint
    logIndex: str = "0"  # noqa: N815
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogEntry:
    """An entry of a transparency log; ``integratedTime`` is in seconds since 1970."""

    logId: LogId  # noqa: N815
    kindVersion: KindVersion  # noqa: N815
    canonicalizedBody: str  # noqa: N815
    inclusionProof: InclusionProof  # noqa: N815
    logIndex: str = "0"  # noqa: N815
    integratedTime: str | None = None  # noqa: N815
    inclusionPromise: Promise | None = None  # noqa: N815


@dataclass(frozen=True)
class Timestamp:
    """An answer of a timestamp authority (RFC 3161)."""

    signedTimestamp: str  # noqa: N815


@dataclass(frozen=True)
class Timestamps:
    """The timestamps over the signature."""

    rfc3161Timestamps: tuple[Timestamp, ...] = ()  # noqa: N815


@dataclass(frozen=True)
class Material:
    """Whose the signature is and when it was made."""

    certificate: Certificate
    tlogEntries: tuple[LogEntry, ...]  # noqa: N815
    timestampVerificationData: Timestamps | None = None  # noqa: N815


@dataclass(frozen=True)
class BareSignature:
    """A signature whose key is in the certificate; a ``keyid`` says nothing, and is empty in a bundle."""

    sig: str
    keyid: str = ""


@dataclass(frozen=True)
class BareEnvelope:
    """What was signed."""

    payload: str
    payloadType: str  # noqa: N815
    signatures: tuple[BareSignature, ...]


@dataclass(frozen=True)
class KeylessDocument:
    """The document that a line is."""

    mediaType: str  # noqa: N815
    verificationMaterial: Material  # noqa: N815
    dsseEnvelope: BareEnvelope  # noqa: N815


@dataclass(frozen=True)
class Proof:
    """An inclusion proof, decoded; ``root`` is what it should come to."""

    index: int
    size: int
    hashes: tuple[bytes, ...]
    root: bytes
    checkpoint: str


@dataclass(frozen=True)
class Entry:
    """A log entry, decoded; ``integrated`` is in seconds since 1970, and nothing without ``promise``."""

    log_id: bytes
    kind: str
    version: str
    body: bytes
    index: int
    proof: Proof
    integrated: int | None
    promise: bytes | None


@dataclass(frozen=True)
class Keyless:
    """A keyless signature, decoded; ``certificate`` is DER. None of it has been checked but its form."""

    payload: bytes
    signature: bytes
    certificate: bytes
    entry: Entry
    timestamps: tuple[bytes, ...]
    line: bytes


def from_line(line: bytes, where: str) -> Keyless:
    """Return what a line without its end holds. Raises ``ConfigError`` for anything but the one form of it."""
    found = _decoded(documents.from_json(KeylessDocument, line, where), where)
    if found.line != line:
        raise ConfigError(f"{where} is not in the form that 'edgepack sign --attach' writes")
    return found


def from_file(text: bytes, where: str) -> Keyless:
    """Return what a Sigstore bundle holds that another program wrote, in whatever form. Raises ``ConfigError``."""
    try:
        data = documents.read_json(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON: {error}", hint="give a Sigstore bundle") from None
    kind = data.get("mediaType") if isinstance(data, dict) else None
    if isinstance(kind, str) and kind.startswith(_OLDER) and kind != _ALSO:
        raise ConfigError(
            f"{where} is a Sigstore bundle of version {kind.removeprefix(_OLDER)[:20]}",
            hint="sign again for version 0.3",
        )
    if kind not in (MEDIA_TYPE, _ALSO):
        raise ConfigError(f"{where} is not a Sigstore bundle", hint="sign with 'model_signing sign sigstore'")
    if "messageSignature" in data:
        raise ConfigError(
            f"{where} is over a file, not a statement on every file", hint="sign with 'model_signing sign sigstore'"
        )
    document = documents.decode(KeylessDocument, {**_without_nothing(data), "mediaType": MEDIA_TYPE}, where)
    return _decoded(document, where)


def _decoded(document: KeylessDocument, where: str) -> Keyless:
    try:
        return _decode(document)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}", hint="sign again, or get the signature again") from None


def _decode(document: KeylessDocument) -> Keyless:
    material, envelope = document.verificationMaterial, document.dsseEnvelope
    if document.mediaType != MEDIA_TYPE or envelope.payloadType != PAYLOAD_TYPE:
        raise ValueError("it is of another kind")
    signature, entry = _one(envelope.signatures, "signature"), _one(material.tlogEntries, "log entry")
    stamps = material.timestampVerificationData.rfc3161Timestamps if material.timestampVerificationData else ()
    if len(stamps) > MOST_TIMESTAMPS or len(set(stamps)) != len(stamps):
        raise ValueError(f"it has more than {MOST_TIMESTAMPS} timestamps, or one twice")
    plain = replace(document, dsseEnvelope=replace(envelope, signatures=(BareSignature(signature.sig),)))
    line = json.dumps(_without_nothing(documents.encode(plain)), separators=(",", ":"), ensure_ascii=True).encode()
    if len(line) > MOST_LINE_BYTES:
        raise ValueError(f"it has {len(line)} bytes; at most {MOST_LINE_BYTES} are read")
    return Keyless(
        from_base64(envelope.payload),
        from_base64(signature.sig),
        from_base64(material.certificate.rawBytes),
        _entry(entry),
        tuple(from_base64(each.signedTimestamp) for each in stamps),
        line,
    )


def _entry(entry: LogEntry) -> Entry:
    proof = entry.inclusionProof
    if len(proof.hashes) > MOST_HASHES:
        raise ValueError(f"an inclusion proof has at most {MOST_HASHES} hashes")
    promise = from_base64(entry.inclusionPromise.signedEntryTimestamp) if entry.inclusionPromise else None
    return Entry(
        from_base64(entry.logId.keyId),
        entry.kindVersion.kind,
        entry.kindVersion.version,
        from_base64(entry.canonicalizedBody),
        _number(entry.logIndex),
        Proof(
            _number(proof.logIndex),
            _number(proof.treeSize),
            tuple(map(from_base64, proof.hashes)),
            from_base64(proof.rootHash),
            proof.checkpoint.envelope,
        ),
        _number(entry.integratedTime) if entry.integratedTime is not None and promise is not None else None,
        promise,
    )


def _one(values: tuple[T, ...], what: str) -> T:
    if len(values) != 1:
        raise ValueError(f"it has {len(values)} values for its {what}; exactly 1 is read")
    return values[0]


def _number(text: str) -> int:
    """Return a whole number that protobuf's JSON has as a text. Raises ``ValueError``."""
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or int(text) > _MOST_NUMBER:
        raise ValueError(f"{text[:30]!r} is not a whole number of 63 bits")
    if str(int(text)) != text:
        raise ValueError(f"{text[:30]!r} begins with 0")
    return int(text)


def _without_nothing(value: Any) -> Any:
    """Return a document without the members that are null: protobuf's JSON has them left out."""
    if isinstance(value, dict):
        return {name: _without_nothing(each) for name, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value
