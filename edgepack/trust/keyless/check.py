"""Checks a keyless signature by a trusted root, offline, in the order of Sigstore's client specification.

The certificate lived for minutes, so what counts is when it was used: the time that the log of signatures signed for
its entry, or a timestamp authority for the signature. The device's clock has no part in it.
Source: Sigstore client specification, 4 (verification).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from edgepack.trust.envelope import PAYLOAD_TYPE, pre_authentication
from edgepack.trust.keyless.certificate import Identity, check_logged, identity_of, issuer_at, key_of, read_certificate
from edgepack.trust.keyless.log import check_entry
from edgepack.trust.keyless.timestamp import stamped_at
from edgepack.trust.keys import is_signed_by

if TYPE_CHECKING:
    from edgepack.trust.keyless.bundle import Keyless
    from edgepack.trust.keyless.trusted_root import TrustedRoot


@dataclass(frozen=True)
class Checked:
    """Who signed, and when at the latest."""

    identity: Identity
    at: datetime


def check_keyless(signed: Keyless, root: TrustedRoot) -> Checked:
    """Return who made a signature and when. Raises ``ValueError`` that says why it counts for nothing."""
    leaf = read_certificate(signed.certificate)
    by = identity_of(leaf)
    key = key_of(leaf, by)
    if not is_signed_by(key, signed.signature, pre_authentication(PAYLOAD_TYPE, signed.payload)):
        raise ValueError("its signature is not its certificate's over what it says")
    logged = check_entry(signed, pem_of(leaf), root.logs)
    stamps = (stamped_at(each, signed.signature, root.timestamp_authorities) for each in signed.timestamps)
    times = [time for time in (logged, *stamps) if time is not None]
    if not times:
        raise ValueError("neither its log nor a trusted timestamp authority has signed when it was made")
    logs = [log for log in root.logs if log.id == signed.entry.log_id]
    if not all(any(log.period.holds(time) for log in logs) for time in times):
        raise ValueError("the log's key did not count at the time of the entry")
    issuer = issuer_at(leaf, root.authorities, times)
    if root.certificate_logs:
        check_logged(leaf, issuer, root.certificate_logs)
    return Checked(by, max(times))


def pem_of(leaf: object) -> bytes:
    """Return a certificate as text."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return leaf.public_bytes(Encoding.PEM)  # type: ignore[attr-defined, no-any-return]
