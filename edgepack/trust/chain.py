"""Certificates of an own authority, kept offline: who has one may sign, and devices know the authority alone.

A signer's certificate and those between it and the authority come in the bundle. Paths are built and checked by
``cryptography`` (RFC 5280: signatures, dates, basic constraints, path lengths); what is asked of a certificate besides
is here. Nothing is fetched: no lists of revoked certificates and no OCSP, so certificates should be short-lived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.files import read_regular
from edgepack.errors import ConfigError, ToolchainError
from edgepack.trust.keys import PublicKey, public_key, refuse_writable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MOST = 16  # certificates in a bundle
MOST_BYTES = 256 << 10  # of a file of certificates
MOST_DEPTH = 4  # certificates between a signer's and an authority
_SECOND = timedelta(seconds=1)


def read_chain(path: Path) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file as DER, in their order. Raises ``ConfigError`` for another kind of file."""
    found = _read(path)
    serialization = _tools()[0]
    return tuple(each.public_bytes(serialization.Encoding.DER) for each in found)


def read_authorities(folder: Path) -> tuple[Certificate, ...]:
    """Return the authorities in a folder's ``.pem`` files. Raises ``ConfigError`` where there is none."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".pem")
    except OSError as error:
        raise ConfigError(
            f"the folder of authorities {folder} cannot be read: {error.strerror}", hint="put their certificates there"
        ) from None
    for path in paths:
        refuse_writable(path)
    found = tuple(each for path in paths for each in _read(path))
    if not found:
        raise ConfigError(f"{folder} holds no certificate of an authority", hint="put NAME.pem there")
    return found


def certified_keys(
    certificates: Sequence[bytes],
    authorities: Sequence[Certificate],
    now: datetime | None,
    names: Iterable[str] = (),
) -> tuple[PublicKey, ...]:
    """Return the keys that one of ``authorities`` vouches for at ``now``; None is when each certificate began.

    A key is one, however many certificates it has: a threshold counts keys.

    ``certificates`` are a stranger's. A signer's certificate is not an authority's, is for digital signatures, and its
    common name is one of ``names``, where there are any. What is anything else counts for nothing.
    """
    x509 = _tools()[1]
    loaded = []
    for data in certificates[:MOST]:
        try:
            loaded.append(x509.load_der_x509_certificate(data))
        except Exception:  # of several kinds, by what is wrong: it vouches for nothing
            continue
    allowed = frozenset(names)
    found: dict[str, PublicKey] = {}
    for leaf in loaded:
        key = _key_of(leaf)
        if key is None or (allowed and key.name not in allowed):
            continue
        if path_to(authorities, leaf, loaded, now if now is not None else _began(leaf)) is None:
            continue
        found.setdefault(key.id, key)
    return tuple(found.values())


def key_ids(certificates: Sequence[bytes]) -> frozenset[str]:
    """Return the ids of the keys that certificates are for. Raises ``ConfigError`` for what is none."""
    x509 = _tools()[1]
    keys = [_key_of(x509.load_der_x509_certificate(data)) for data in certificates]
    return frozenset(key.id for key in keys if key is not None)


def _read(path: Path) -> list[Certificate]:
    x509 = _tools()[1]
    try:
        return list(x509.load_pem_x509_certificates(read_regular(path, MOST_BYTES)))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", hint="give certificates in PEM, the signer's first") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} holds no certificates in PEM: {str(error)[:200]}") from None


def _key_of(leaf: Certificate) -> PublicKey | None:
    """Return the key of a signer's certificate; None where it is an authority's, or not for signatures."""
    x509 = _tools()[1]
    try:
        (name,) = leaf.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
        return signing_key(leaf, str(name.value))
    except Exception:  # no such name, or one that cannot be read; no signer's certificate
        return None


def signing_key(leaf: Certificate, name: str) -> PublicKey:
    """Return the key of a certificate that is for digital signatures and no authority's.

    Raises ``ConfigError``, or what ``cryptography`` raises for what it cannot read, for any other.
    """
    serialization, x509, *_ = _tools()
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    constraints = [each.value for each in leaf.extensions if each.oid == x509.oid.ExtensionOID.BASIC_CONSTRAINTS]
    if not usage.digital_signature or any(each.ca for each in constraints):
        raise ConfigError("the certificate is not a signer's")
    pem = leaf.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public_key(name, pem, "a certificate")


def path_to(
    authorities: Sequence[Certificate], leaf: Certificate, others: Sequence[Certificate], moment: datetime
) -> Sequence[Certificate] | None:
    """Return the path from ``leaf`` over ``others`` to one of ``authorities`` that holds at ``moment``, or None."""
    _, x509, verification = _tools()
    critical = verification.Criticality.CRITICAL
    authority = verification.ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, critical, None)
    authority = authority.require_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _signs_certificates)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(authorities)))
        .time(moment)
        .max_chain_depth(MOST_DEPTH)
        .extension_policies(ca_policy=authority, ee_policy=verification.ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        return tuple(verifier.verify(leaf, [each for each in others if each != leaf]).chain)
    except verification.VerificationError:
        return None


def _signs_certificates(_policy: Any, _certificate: Any, usage: Any) -> None:
    if not usage.key_cert_sign:
        raise ValueError("the key is not for signing certificates")


def _began(leaf: Certificate) -> datetime:
    return leaf.not_valid_before_utc + _SECOND


def _tools() -> Any:
    """Return what of ``cryptography`` is used. Raises ``ToolchainError`` where it is not installed, or too old."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.x509 import verification
    except ImportError as error:
        raise ToolchainError(
            f"certificates cannot be checked here: {error}", hint="pip install 'edgepack[verify]'"
        ) from None
    if not hasattr(verification, "ExtensionPolicy"):
        raise ToolchainError(
            "certificates need cryptography 45 or newer", hint="pip install --upgrade 'cryptography>=45'"
        )
    return serialization, x509, verification
