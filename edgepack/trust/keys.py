"""Keys for signatures: ECDSA on P-256 with SHA-256, as PEM files; the one module that uses ``cryptography``.

One kind of key, so that nothing is negotiated. A key's id is the sha256 of its public PEM, as OpenSSF's model signing
has it in its key hint.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.files import read_regular, storage_errors, sync_folder
from edgepack.errors import ConfigError, StorageError, ToolchainError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key.pem", ".pub.pem"
_MOST_BYTES = 64 << 10
_INSTALL = "pip install 'edgepack[verify]'"
_KIND = "make one with 'edgepack keygen', or with: openssl ecparam -name prime256v1 -genkey -noout"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with: ``pem`` is the text of its SubjectPublicKeyInfo."""

    name: str
    pem: str

    @property
    def id(self) -> str:
        """Return the sha256 of the PEM text, 64 digits."""
        return hashlib.sha256(self.pem.encode()).hexdigest()


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs; its ``repr`` shows the public part alone."""

    public: PublicKey
    _key: EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public.name} {self.public.id[:16]}>"

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature of ``message``; the same message gives the same one (RFC 6979) where that is known.

        Older OpenSSL draws a random number instead, which is as good a signature.
        """
        _, _, ec, unsupported = _tools()
        try:
            return self._key.sign(message, ec.ECDSA(_sha256(), deterministic_signing=True))
        except (unsupported, TypeError):
            return self._key.sign(message, ec.ECDSA(_sha256()))


def make_key(name: str, folder: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Write ``NAME.key.pem``, which only this user can read, and ``NAME.pub.pem`` into ``folder``; never over another.

    With a ``passphrase`` the private file is encrypted. Raises ``StorageError`` when one of the files is there.
    """
    serialization, _, ec, _ = _tools()
    key = ec.generate_private_key(ec.SECP256R1())
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    made = PrivateKey(_public(name, key.public_key()), key)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(folder / f"{name}{PRIVATE_SUFFIX}", private, 0o600)
        _write_new(folder / f"{name}{PUBLIC_SUFFIX}", made.public.pem.encode(), 0o644)
        sync_folder(folder)
    return made


def read_private(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Return a private key of a PEM file. Raises ``ConfigError`` for another kind of key or a wrong passphrase."""
    serialization, _, ec, _ = _tools()
    text = _read(path)
    try:
        key = serialization.load_pem_private_key(text, passphrase)
    except (ValueError, TypeError) as error:
        if b"-----BEGIN" not in text:  # what cryptography says is an address of its documentation
            raise ConfigError(f"{path} is not a private key in PEM", hint=_KIND) from None
        for kind in ("PUBLIC KEY", "CERTIFICATE"):
            if b"PRIVATE KEY" not in text and f"-----BEGIN {kind}-----".encode() in text:
                hint = f"give the private key that belongs to it, NAME{PRIVATE_SUFFIX}"
                raise ConfigError(f"{path} is not a private key but a {kind.lower()}", hint=hint) from None
        raise ConfigError(
            f"{path} is not a private key: {str(error)[:200]}",
            hint="set EDGEPACK_KEY_PASSPHRASE where it is encrypted, and only there",
        ) from None
    except Exception as error:  # algorithms that this OpenSSL does not have
        raise ConfigError(f"{path} is not a private key: {str(error)[:200]}", hint=_KIND) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{path} is not an ECDSA key on P-256", hint=_KIND)
    return PrivateKey(_public(_name(path), key.public_key()), key)


def read_public(path: Path) -> PublicKey:
    """Return a public key of a PEM file. Raises ``ConfigError`` when it is another kind of file or key."""
    return public_key(_name(path), _read(path), str(path))


def public_key(name: str, pem: str | bytes, where: str) -> PublicKey:
    """Return the key of a PEM text, in the one form that its id is made of. Raises ``ConfigError``."""
    serialization, _, ec, _ = _tools()
    text = pem if isinstance(pem, bytes) else pem.encode("utf-8", "replace")
    if b"PRIVATE KEY" in text:
        raise ConfigError(f"{where} holds a private key", hint=f"give the public one, NAME{PUBLIC_SUFFIX}")
    try:
        key = serialization.load_pem_public_key(text)
    except Exception as error:  # of several kinds, by what is wrong with the text
        raise ConfigError(f"{where} is not a public key: {str(error)[:200]}", hint=_KIND) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{where} is not an ECDSA key on P-256", hint=_KIND)
    return _public(name, key)


def read_folder(folder: Path) -> tuple[PublicKey, ...]:
    """Return the public keys of a folder's ``.pem`` files, by name, each key once. Raises ``ConfigError``."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".pem")
    except OSError as error:
        raise ConfigError(
            f"the folder of trusted keys {folder} cannot be read: {error.strerror}", hint="put NAME.pub.pem files there"
        ) from None
    found: dict[str, PublicKey] = {}
    for path in paths:
        refuse_writable(path)
        key = read_public(path)
        found.setdefault(key.id, key)
    return tuple(found.values())


def is_signed_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Say whether ``signature`` (DER) is this key's over ``message``."""
    serialization, invalid, ec, _ = _tools()
    loaded: EllipticCurvePublicKey = serialization.load_pem_public_key(key.pem.encode())
    try:
        loaded.verify(signature, message, ec.ECDSA(_sha256()))
    except invalid:
        return False
    return True


def refuse_writable(path: Path) -> None:
    """Raise ``StorageError`` when another user could have written what decides about trust, or its folder."""
    for place in (path, path.parent):
        try:
            status = place.stat()
        except OSError as error:
            raise StorageError(f"{place} cannot be read: {error.strerror}", hint="make it readable") from None
        sticky = place != path and status.st_mode & 0o1000
        if status.st_uid not in (os.geteuid(), 0) or (status.st_mode & 0o022 and not sticky):
            raise StorageError(f"{place} is writable by other users", hint=f"chmod go-w {place}")


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", hint=_KIND) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", hint=_KIND) from None


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise StorageError(f"{path} already exists", hint="give another name: a key is never overwritten") from None
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)


def _public(name: str, key: EllipticCurvePublicKey) -> PublicKey:
    serialization, *_ = _tools()
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return PublicKey(name, key.public_bytes(serialization.Encoding.PEM, kind).decode("ascii"))


def _name(path: Path) -> str:
    name = path.name
    for suffix in (PRIVATE_SUFFIX, PUBLIC_SUFFIX, ".pem"):
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix)
    return name


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def _tools() -> Any:
    """Return what of ``cryptography`` is used. Raises ``ToolchainError`` where it is not installed."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise ToolchainError(f"signatures cannot be made or checked here: {error}", hint=_INSTALL) from None
    return serialization, InvalidSignature, ec, UnsupportedAlgorithm
