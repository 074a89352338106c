"""Keyless signatures of the double in which one part is forged, and what a refusal says of each."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID as Uses
from sigstore_double import AT, ME, Log, Sigstore, der, oid, sign, text64
from trust_cases import issue

SHA1 = der(0x30, oid("1.3.14.3.2.26"))
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
SIGSTORE = Sigstore()
OTHER = Sigstore()
NEW_KEY = ec.generate_private_key(ec.SECP256R1())


def entry_of(document: dict[str, Any]) -> Any:
    return document["verificationMaterial"]["tlogEntries"][0]


def flipped(text: str, place: int = 10) -> str:
    data = bytearray(base64.b64decode(text))
    data[place % len(data)] ^= 1
    return text64(bytes(data))


def change_note(document: dict[str, Any], change: Callable[[str], str]) -> None:
    checkpoint = entry_of(document)["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = change(checkpoint["envelope"])


def sign_note(document: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change what a checkpoint says, and let the log sign it."""
    text = change(entry_of(document)["inclusionProof"]["checkpoint"]["envelope"].partition("\n\n")[0] + "\n")
    note = text64(SIGSTORE.log.id[:4] + sign(SIGSTORE.log.key, text.encode()))
    change_note(document, lambda _: f"{text}\n\u2014 log.example.com {note}\n")


def change_time(document: dict[str, Any], seconds: int) -> None:
    """Let the log promise another time."""
    entry = entry_of(document)
    entry["integratedTime"] = str(seconds)
    entry["inclusionPromise"]["signedEntryTimestamp"] = text64(SIGSTORE.log.promise(entry))


def other_log(document: dict[str, Any]) -> None:
    """Let another key sign all that the log signs, under the log's id."""
    entry, log = entry_of(document), Log(NEW_KEY)
    proof = entry["inclusionProof"]
    text = proof["checkpoint"]["envelope"].partition("\n\n")[0] + "\n"
    note = text64(SIGSTORE.log.id[:4] + NEW_KEY.sign(text.encode(), ec.ECDSA(SHA256())))
    proof["checkpoint"]["envelope"] = f"{text}\n\u2014 log.example.com {note}\n"
    entry["inclusionPromise"]["signedEntryTimestamp"] = text64(log.promise(entry))


FORGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "the payload": (lambda d: d["dsseEnvelope"].update(payload=text64(PAYLOAD + b" ")), "over what it says"),
    "the payload's type": (lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), "of another kind"),
    "the signature": (
        lambda d: d["dsseEnvelope"]["signatures"][0].update(sig=text64(NEW_KEY.sign(b"", ec.ECDSA(SHA256())))),
        "over what it says",
    ),
    "two signatures": (
        lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}), "exactly 1 is read",
    ),
    "the certificate": (
        lambda d: d["verificationMaterial"]["certificate"].update(rawBytes=text64(SIGSTORE.certificate().der())),
        "over what it says",
    ),
    "no certificate": (
        lambda d: d["verificationMaterial"]["certificate"].update(rawBytes=text64(b"x")), "certificate cannot be read",
    ),
    "the log": (lambda d: entry_of(d)["logId"].update(keyId=text64(OTHER.log.id)), "none that is trusted"),
    "the log's key": (other_log, "checkpoint is not signed by it"),
    "the entry's kind": (
        lambda d: entry_of(d)["kindVersion"].update(kind="hashedrekord", version="0.0.2"), "of another signature",
    ),
    "an unknown kind": (lambda d: entry_of(d)["kindVersion"].update(version="0.0.9"), "which is not read"),
    "the entry": (lambda d: entry_of(d).update(canonicalizedBody=text64(b"{}")), "of another signature"),
    "no entry": (lambda d: d["verificationMaterial"].update(tlogEntries=[]), "exactly 1 is read"),
    "the index in the log": (lambda d: entry_of(d).update(logIndex="7"), "time of its log entry is not signed"),
    "the time": (
        lambda d: entry_of(d).update(integratedTime=str(int(AT.timestamp()) + 61)), "is not signed by the log",
    ),
    "the promise": (
        lambda d: entry_of(d)["inclusionPromise"].update(signedEntryTimestamp=text64(b"0" * 70)),
        "time of its log entry is not signed",
    ),
    "no promise": (lambda d: entry_of(d).pop("inclusionPromise"), "nor a trusted timestamp authority"),
    "the place in the tree": (lambda d: entry_of(d)["inclusionProof"].update(logIndex="5"), "does not lead to"),
    "a place outside": (lambda d: entry_of(d)["inclusionProof"].update(logIndex="9"), "no entry of the tree"),
    "the tree's size": (lambda d: entry_of(d)["inclusionProof"].update(treeSize="8"), "of another tree"),
    "the tree's hash": (
        lambda d: entry_of(d)["inclusionProof"].update(rootHash=flipped(entry_of(d)["inclusionProof"]["rootHash"])),
        "of another tree",
    ),
    "a hash on the way": (
        lambda d: entry_of(d)["inclusionProof"]["hashes"].__setitem__(
            1, flipped(entry_of(d)["inclusionProof"]["hashes"][1])
        ), "does not lead to",
    ),
    "a hash less": (lambda d: entry_of(d)["inclusionProof"]["hashes"].pop(), "too few hashes"),
    "a hash more": (lambda d: entry_of(d)["inclusionProof"]["hashes"].append(text64(b"0" * 32)), "of another tree"),
    "a short hash": (
        lambda d: entry_of(d)["inclusionProof"]["hashes"].__setitem__(0, text64(b"0")), "of another tree",
    ),
    "no proof": (lambda d: entry_of(d).pop("inclusionProof"), "inclusionProof"),
    "the checkpoint's size": (
        lambda d: change_note(d, lambda note: note.replace("\n9\n", "\n8\n")), "is not signed by it",
    ),
    "the checkpoint's origin": (
        lambda d: change_note(d, lambda note: note.replace("log.example.com - 17", "x")), "is not signed by it",
    ),
    "the checkpoint's signature": (
        lambda d: change_note(d, lambda note: note[:-12] + "AAAAAAAAAAA\n"), "is not",
    ),
    "the hint at the checkpoint's key": (
        lambda d: change_note(d, lambda note: f"{note[: note.rindex(' ')]} {flipped(note.split()[-1], 0)}\n"),
        "is not signed by it",
    ),
    "the name at the checkpoint's signature": (
        lambda d: change_note(d, lambda note: note.replace("\u2014 log.example.com", "\u2014 log.exampce.com")),
        "is not signed by it",
    ),
    "another log's checkpoint": (
        lambda d: change_note(d, lambda _: OTHER.log.checkpoint(9, b"0" * 32)), "is not signed by it",
    ),
    "an earlier checkpoint": (
        lambda d: change_note(d, lambda _: SIGSTORE.log.checkpoint(8, b"0" * 32)), "of another tree",
    ),
    "no checkpoint": (lambda d: change_note(d, lambda _: ""), "checkpoint cannot be read"),
    "a checkpoint without signatures": (
        lambda d: change_note(d, lambda note: note.partition("\n\n")[0] + "\n\n"), "checkpoint cannot be read",
    ),
    "an entry that is no document": (
        lambda d: entry_of(d).update(canonicalizedBody=text64(b"{")), "of another signature",
    ),
    "an entry that is a list": (lambda d: entry_of(d).update(canonicalizedBody=text64(b"[1]")), "of another signature"),
    "a checkpoint without a size": (
        lambda d: sign_note(d, lambda text: text.replace("\n9\n", "\nnine\n")), "checkpoint has no size",
    ),
    "a checkpoint with a hash that is none": (
        lambda d: sign_note(d, lambda text: text[:-3] + "=!\n"), "it is not base64",
    ),
    "a checkpoint of more than 16384 characters": (
        lambda d: sign_note(d, lambda text: text + "x" * (16 << 10) + "\n"), "checkpoint cannot be read",
    ),
    "a checkpoint's signature that is none": (
        lambda d: change_note(d, lambda note: note[:-2] + "!\n"), "it is not base64",
    ),
    "a time that no calendar has": (lambda d: change_time(d, 1 << 62), "time of its log entry is none"),
    "the first time that no calendar has": (lambda d: change_time(d, 253402300800), "time of its log entry is none"),
    "the last time of the calendar": (lambda d: change_time(d, 253402300799), "no trusted authority vouches"),
    "a promise without a time": (lambda d: entry_of(d).pop("integratedTime"), "nor a trusted timestamp authority"),
    "a line more in the checkpoint": (lambda d: change_note(d, lambda note: note + "x\n"), "is not signed by it"),
}  # fmt: skip


def a_millisecond_later(stamp: bytes) -> bytes:
    """Return a signed certificate timestamp of another time than was signed."""
    return stamp[:33] + (int.from_bytes(stamp[33:41], "big") + 1).to_bytes(8, "big") + stamp[41:]


def certificate_cases() -> dict[str, tuple[dict[str, Any], str]]:
    stranger = issue("intermediate", OTHER.root, ca=True, length=0, days=(-900, 900))
    issuer_text, issuer_utf8 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{n}") for n in (1, 8))
    signer = SIGSTORE.certificate()
    return {
        "another authority": ({"by": stranger}, "no trusted authority"),
        "itself a signer's": ({"by": issue("a", SIGSTORE.middle, days=(-900, 900))}, "no trusted authority"),
        "a signer as authority": ({"by": signer}, "no trusted authority"),
        "another certificate log": ({"stamps": [NEW_KEY]}, "log of certificates"),
        "a stamp for another issuer": ({"stamped_by": SIGSTORE.root}, "log of certificates"),
        "no stamp": ({"stamps": []}, "log of certificates"),
        "not for signatures": ({"signs": False}, "not for signing code"),
        "for servers": ({"uses": [Uses.SERVER_AUTH]}, "not for signing code"),
        "another curve": ({"curve": ec.SECP384R1()}, "not for signing code"),
        "two names": ({"names": [x509.RFC822Name(ME), x509.RFC822Name("eve@example.com")]}, "whose it is"),
        "a name of a host": ({"names": [x509.DNSName("example.com")]}, "whose it is"),
        "two issuers": ({"texts": {issuer_text: b"https://eve.example.com"}}, "whose it is"),
        "no issuer": ({"texts": {issuer_text: None, issuer_utf8: None}}, "whose it is"),
        "an issuer that is no text": ({"texts": {issuer_utf8: b"\x0c\x7fx"}}, "whose it is"),
        "an issuer that is not UTF-8": ({"texts": {issuer_text: b"\xff", issuer_utf8: None}}, "whose it is"),
        "an empty issuer": ({"texts": {issuer_text: b"", issuer_utf8: der(12)}}, "whose it is"),
        "no name": ({"names": None}, "whose it is"),
        "an empty name": ({"names": [x509.UniformResourceIdentifier("")]}, "whose it is"),
        "another program's kind of name": (
            {"names": [x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.9"), der(12, b"eve"))]}, "whose it is",
        ),
        "a name of Fulcio's that is no text": (
            {"names": [x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), der(4, b"eve"))]}, "whose it is",
        ),
        "an authority's": ({"ca": True}, "not for signing code"),
        "no use": ({"signs": None}, "not for signing code"),
        "no extended use": ({"uses": None}, "not for signing code"),
        "a stamp of another version": ({"stamp_as": lambda made: b"\1" + made[1:]}, "whose it is"),
        "a stamp of another time": ({"stamp_as": a_millisecond_later}, "log of certificates"),
        "a stamp of a time that no calendar has": (
            {"stamp_as": lambda made: made[:33] + b"\xff" * 8 + made[41:]}, "log of certificates",
        ),
        "a stamp by another hash": ({"stamp_as": lambda made: made[:43] + b"\5" + made[44:]}, "log of certificates"),
        "a stamp that is cut off": ({"stamp_as": lambda made: made[:20]}, "whose it is"),
    }  # fmt: skip


STAMPS: dict[str, tuple[dict[str, Any], str]] = {
    "another message": ({"stamped": b"other"}, "of another signature"),
    "another time in the attributes": ({"digested": b"other"}, "of another time"),
    "another key": ({"key": NEW_KEY}, "nor a trusted timestamp authority"),
    "refused": ({"status": b"\2"}, "not granted"),
    "not signed": ({"token": "1.2.840.113549.1.7.1"}, "it is not signed"),
    "over something else": ({"content": "1.2.840.113549.1.7.1"}, "it is not a timestamp"),
    "attributes of something else": ({"attributes_of": "1.2.840.113549.1.7.1"}, "attributes are of something else"),
    "no kind in the attributes": ({"without": "3"}, "timestamp cannot be read"),
    "no hash in the attributes": ({"without": "4"}, "timestamp cannot be read"),
    "an attribute twice": ({"more": [("16.2.47", der(0x30))]}, "an attribute stands twice"),
    "two signers": ({"signers": 2}, "timestamp cannot be read"),
    "no signer": ({"signers": 0}, "timestamp cannot be read"),
    "signed by an unknown hash": ({"hash_kind": SHA1}, "it has an unknown hash"),
    "over an unknown hash": ({"imprint_kind": SHA1}, "it has an unknown hash"),
    "over another hash": ({"imprint_kind": der(0x30, oid("2.16.840.1.101.3.4.2.3"))}, "of another signature"),
    **{
        f"the time {time.decode()}": ({"time": time}, "is not a time")
        for time in (b"20260101000000", b"202601010000Z", b"20260101000000.Z", b"20260101000000.xZ", b"2026010100000xZ",
                     b"20261301000000Z")
    },
}  # fmt: skip


CERTIFICATES = certificate_cases()
