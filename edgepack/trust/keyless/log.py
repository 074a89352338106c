"""Entries of a transparency log: that a log has one, as its signed checkpoint says, and that it is of this signature.

Sources: RFC 6962, 2.1 (hashes and inclusion proofs); C2SP signed-note and tlog-checkpoint; Rekor's API (the signed
entry timestamp is over canonical JSON, RFC 8785, of four members); the schemas ``dsse`` 0.0.1 and ``hashedrekord``
0.0.2 of its entries.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgepack.base import documents
from edgepack.trust.envelope import PAYLOAD_TYPE, from_base64, pre_authentication, to_base64
from edgepack.trust.keyless.bundle import Entry, Keyless, Proof

if TYPE_CHECKING:
    from edgepack.trust.keyless.trusted_root import LogKey

_LEAF, _NODE = b"\0", b"\1"
_SIGNATURE = re.compile("\u2014 (\\S+) (\\S+)")
_KEY_HINT_BYTES = 4
_MOST_NOTE = 16 << 10
_CURVE = "PKIX_ECDSA_P256_SHA_256"


def check_entry(signed: Keyless, pem: bytes, logs: Sequence[LogKey]) -> datetime | None:
    """Return when the log took the entry, where it has signed that time; ``pem`` is the signer's certificate.

    Raises ``ValueError`` when no log of ``logs`` has this entry, or it is of another signature.
    """
    entry = signed.entry
    keys = [log for log in logs if log.id == entry.log_id]
    if not keys:
        raise ValueError(f"its log {entry.log_id.hex()[:16]} is none that is trusted")
    _check_body(signed, pem)
    _check_inclusion(entry, keys)
    return _time(entry, keys)


def root_of(leaf: bytes, proof: Proof) -> bytes:
    """Return the hash that the tree has by a proof that ``leaf`` is in it (RFC 9162, 2.1.3.2).

    Raises ``ValueError`` for a proof that is of another length than the tree's size asks for.
    """
    if not 0 <= proof.index < proof.size:
        raise ValueError("the inclusion proof is for no entry of the tree")
    node, last = proof.index, proof.size - 1
    found = hashlib.sha256(_LEAF + leaf).digest()
    for each in proof.hashes:
        if len(each) != len(found) or last == 0:
            raise ValueError("the inclusion proof has hashes of another tree")
        if node & 1 or node == last:
            found = hashlib.sha256(_NODE + each + found).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = hashlib.sha256(_NODE + found + each).digest()
        node, last = node >> 1, last >> 1
    if last:
        raise ValueError("the inclusion proof has too few hashes")
    return found


def _check_inclusion(entry: Entry, keys: Sequence[LogKey]) -> None:
    proof = entry.proof
    size, root = _checkpoint(proof.checkpoint, keys)
    if size != proof.size or root != proof.root:
        raise ValueError("the log's checkpoint is of another tree than the inclusion proof")
    if root_of(entry.body, proof) != root:
        raise ValueError("the inclusion proof does not lead to the log's checkpoint")


def _checkpoint(note: str, keys: Sequence[LogKey]) -> tuple[int, bytes]:
    """Return size and hash of the tree of a checkpoint that a log of ``keys`` signed. Raises ``ValueError``."""
    text, _, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if len(note) > _MOST_NOTE or len(lines) < 3 or not lines[0] or not signatures.endswith("\n"):
        raise ValueError("the log's checkpoint cannot be read")
    message = (text + "\n").encode()
    found = [match for line in signatures.split("\n")[:-1] if (match := _SIGNATURE.fullmatch(line))]
    # A log names itself in the first line, with its tree's number behind it in Rekor 1, and before its signature.
    named = [from_base64(each[2]) for each in found if each[1] == lines[0].partition(" - ")[0]]
    if len(found) != signatures.count("\n") or not any(_is_by(each, message, keys) for each in named):
        raise ValueError("the log's checkpoint is not signed by it")
    if not lines[1].isascii() or not lines[1].isdecimal() or len(lines[1]) > 19:
        raise ValueError("the log's checkpoint has no size")
    return int(lines[1]), from_base64(lines[2])


def _is_by(signature: bytes, message: bytes, keys: Sequence[LogKey]) -> bool:
    hint, rest = signature[:_KEY_HINT_BYTES], signature[_KEY_HINT_BYTES:]
    return any(key.id[:_KEY_HINT_BYTES] == hint and key.signed(rest, message) for key in keys)


def _time(entry: Entry, keys: Sequence[LogKey]) -> datetime | None:
    """Return the time that a log of ``keys`` signed. Raises ``ValueError`` for one that none of them did."""
    if entry.promise is None or entry.integrated is None:
        return None
    said = {
        "body": to_base64(entry.body), "integratedTime": entry.integrated,
        "logID": entry.log_id.hex(), "logIndex": entry.index,
    }  # fmt: skip
    message = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    try:
        moment = datetime.fromtimestamp(entry.integrated, timezone.utc)  # noqa: UP017 (Python 3.10)
    except (OverflowError, ValueError, OSError):
        raise ValueError("the time of its log entry is none") from None
    if not any(key.signed(entry.promise, message) for key in keys):
        raise ValueError("the time of its log entry is not signed by the log")
    return moment


# --- what an entry says -----------------------------------------------------------------------------------------------


def _check_body(signed: Keyless, pem: bytes) -> None:
    entry = signed.entry
    expected = _BODIES.get((entry.kind, entry.version))
    if expected is None:
        raise ValueError(f"its log entry is of the kind {entry.kind[:20]!r} {entry.version[:20]!r}, which is not read")
    try:
        body = documents.read_json(entry.body)
        same = (
            body["kind"] == entry.kind and body["apiVersion"] == entry.version and expected(body["spec"], signed, pem)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise ValueError("its log entry is of another signature")


def _is_dsse(spec: Any, signed: Keyless, pem: bytes) -> bool:
    """Say whether an entry of Rekor 1 is of this payload, signature and certificate.

    The hash of the envelope, which is in it too, is over JSON in a form that nobody can tell afterwards.
    """
    payload = {"algorithm": "sha256", "value": hashlib.sha256(signed.payload).hexdigest()}
    signature = {"signature": to_base64(signed.signature), "verifier": to_base64(pem)}
    return bool(spec["payloadHash"] == payload and spec["signatures"] == [signature])


def _is_hashed(spec: Any, signed: Keyless, _pem: bytes) -> bool:
    """Say whether an entry of Rekor 2 is of what was signed, the signature and the certificate."""
    message = hashlib.sha256(pre_authentication(PAYLOAD_TYPE, signed.payload)).digest()
    certificate = {"rawBytes": to_base64(signed.certificate)}
    return bool(
        spec["hashedRekordV002"]
        == {
            "data": {"algorithm": "SHA2_256", "digest": to_base64(message)},
            "signature": {
                "content": to_base64(signed.signature),
                "verifier": {"keyDetails": _CURVE, "x509Certificate": certificate},
            },
        }
    )


_BODIES = {("dsse", "0.0.1"): _is_dsse, ("hashedrekord", "0.0.2"): _is_hashed}
