"""Keyless signatures of the double in which one part is forged, and what a refusal says of each."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID as Uses
from sigstore_double import AT, ME, Log, Sigstore, text64
from trust_cases import issue

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
    "a line more in the checkpoint": (lambda d: change_note(d, lambda note: note + "x\n"), "is not signed by it"),
}  # fmt: skip


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
    }


CERTIFICATES = certificate_cases()
