"""The member ``signature.dsse.json``: one line for the signatures by keys, one for each keyless signature.

Each line is a Sigstore bundle, so that with one line the member is one as it stands. A keyless signature is one
signer's over a statement of their own: a Sigstore bundle holds no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.base import documents
from edgepack.bundle.archive import SIGNATURE_LIMIT_BYTES
from edgepack.bundle.layout import SIGNATURE
from edgepack.errors import ConfigError, TrustError
from edgepack.trust import envelope
from edgepack.trust.envelope import MOST_SIGNATURES, Envelope
from edgepack.trust.keyless.bundle import Keyless, from_line

_END = b"\n"
_REPLACE = "sign it anew with --replace"


@dataclass(frozen=True)
class Signatures:
    """All signatures of a bundle: by keys, None where there are none, and keyless ones."""

    envelope: Envelope | None = None
    keyless: tuple[Keyless, ...] = ()


def to_bytes(signatures: Signatures) -> bytes:
    """Return the one form that the member has. Raises ``ConfigError`` when it would be too large to be read."""
    lines = tuple(each.line for each in signatures.keyless)
    if len(lines) > MOST_SIGNATURES or len(set(lines)) != len(lines):
        raise ConfigError(f"a bundle has at most {MOST_SIGNATURES} keyless signatures, each once", hint=_REPLACE)
    first = envelope.to_bytes(signatures.envelope) if signatures.envelope is not None else b""
    text = first + b"".join(line + _END for line in lines)
    if len(text) > SIGNATURE_LIMIT_BYTES:
        raise ConfigError(
            f"the signatures have {len(text)} bytes; at most {SIGNATURE_LIMIT_BYTES} are read", hint=_REPLACE
        )
    return text


def from_bytes(text: bytes, where: str) -> Signatures:
    """Return what the member holds. Raises ``TrustError`` for anything but the one form of it."""
    lines = text.split(_END)
    if len(lines) - 1 > 1 + MOST_SIGNATURES:
        raise TrustError(f"{where}: {SIGNATURE} has more than {MOST_SIGNATURES} keyless signatures", hint=_REPLACE)
    begin = 0 if _is_keyless(lines[0]) else 1
    first = envelope.from_bytes(_END.join((lines[0], b"")) if lines[1:] else text, where) if begin else None
    place = f"{where}: {SIGNATURE}"
    try:
        made = Signatures(first, tuple(from_line(line, place) for line in lines[begin:-1]))
        whole = len(set(lines)) == len(lines) and to_bytes(made) == text
    except ConfigError as error:
        raise TrustError(error.message[:400], hint=error.hint) from None
    if not whole:
        raise TrustError(f"{place} is not in the form that 'edgepack sign' writes", hint=_REPLACE)
    return made


def _is_keyless(line: bytes) -> bool:
    """Say whether a line should be read as a keyless signature; it is checked afterwards either way."""
    try:
        return "certificate" in documents.read_json(line)["verificationMaterial"]
    except (ValueError, KeyError, TypeError):
        return False
