"""Keys, signed bundles and policies for tests, made in code."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from small_bundles import small_bundle

from edgepack.trust.keys import PrivateKey, make_key, read_private
from edgepack.trust.sign import sign

NOW = datetime.now(timezone.utc).replace(microsecond=0)  # noqa: UP017 (Python 3.10)
DAY = timedelta(days=1)
_NAMES = x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME


def device(folder: Path, *trusted: PrivateKey, **policy: Any) -> Path:
    """Write a policy with its folder of trusted keys; return its path, for ``EDGEPACK_POLICY``."""
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    for key in trusted:
        (folder / "keys" / f"{key.public.name}.pub.pem").write_text(key.public.pem)
    path = folder / "policy.json"
    path.write_text(json.dumps({"format": 1, "require_signature": True, **policy}))
    return path


def new_key(folder: Path, name: str) -> PrivateKey:
    """Make a pair of keys."""
    return make_key(name, folder / "private")


def signed_bundle(folder: Path, *keys: PrivateKey, channels: int = 2, expires: Any = None, **changes: Any) -> Path:
    """Pack the small model into ``folder`` and sign it."""
    path = small_bundle(folder, channels, **changes)
    sign(path, keys, expires=expires)
    return path


# --- certificates -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Holder:
    """A key and its certificate."""

    name: x509.Name
    key: Any
    certificate: x509.Certificate

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def private(self, folder: Path) -> PrivateKey:
        path = folder / "holder.key.pem"
        how = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path.write_bytes(self.key.private_bytes(serialization.Encoding.PEM, *how))
        return read_private(path)


def issue(
    name: str,
    by: Holder | None = None,
    *,
    ca: bool = False,
    length: int | None = None,
    days: tuple[int, int] = (-1, 30),
    signs: bool = True,
    curve: Any = None,
    issues: bool | None = None,
    key: Any = None,
    critical: bool = True,
    uses: Any = None,
    names: bytes | None = None,
) -> Holder:
    """Make a certificate, of ``key`` where it is given; without ``by`` it is its own issuer.

    ``critical`` says of its basic constraints whether who does not know them must refuse it; ``uses`` are its extended
    uses, ``names`` the DER of its other names.
    """
    key = key or ec.generate_private_key(curve or ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.name if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=length), critical=critical)
        .add_extension(
            x509.KeyUsage(digital_signature=signs, key_cert_sign=ca if issues is None else issues, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if uses is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=True)
    if names is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(_NAMES, names), critical=False)
    if by is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return Holder(subject, key, builder.sign((by or Holder(subject, key, None)).key, hashes.SHA256()))  # type: ignore[arg-type]
