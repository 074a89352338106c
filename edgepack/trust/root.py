"""The root of trust: a small signed document that says whose signatures count, replaced by the rules of TUF.

It is TUF's own ``root.json`` (specification 1.0): keys, and for each role which of them and how many. The role
``targets`` signs bundles; ``root`` signs the next root. A device that holds version N takes N+1 only, signed by enough
of N's root keys and by enough of its own; it never goes back, and takes nothing new when the newest is out of date.
A key that is revoked is not named by the next version. ``snapshot`` and ``timestamp``, which TUF wants to be named,
are ``targets``' keys: what they would sign, a bundle's own signature says.
Source: theupdateframework/specification 1.0.34, sections 4.2, 4.3, 5.3.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edgepack.base import documents
from edgepack.base.files import atomic_write, read_regular
from edgepack.errors import ConfigError, TrustError
from edgepack.trust.keys import PrivateKey, PublicKey, is_signed_by, public_key
from edgepack.trust.statement import as_text, when

LIMIT_BYTES = 512 << 10
_SPEC_VERSION = "1.0.34"
KEY_TYPE, SCHEME = "ecdsa", "ecdsa-sha2-nistp256"
ROOT, BUNDLES = "root", "targets"
MOST_KEYS = 64
_DAMAGED = "get the root of trust again"
_NEXT = "take every version in turn: edgepack root take 2.root.json 3.root.json ..."


@dataclass(frozen=True)
class Value:
    """The part of a key that differs from key to key."""

    public: str


@dataclass(frozen=True)
class Key:
    """A key as TUF writes it."""

    keytype: str
    scheme: str
    keyval: Value


@dataclass(frozen=True)
class Role:
    """Whose signatures count for a role, and how many are needed."""

    keyids: tuple[str, ...]
    threshold: int


@dataclass(frozen=True)
class Root:
    """The signed part."""

    _type: str
    spec_version: str
    version: int
    expires: str
    keys: Mapping[str, Key]
    roles: Mapping[str, Role]
    consistent_snapshot: bool = True


@dataclass(frozen=True)
class RootSignature:
    """A signature: ``sig`` is DER in hexadecimal digits."""

    keyid: str
    sig: str


@dataclass(frozen=True)
class SignedRoot:
    """The document."""

    signatures: tuple[RootSignature, ...]
    signed: Root

    @property
    def version(self) -> int:
        """Return the version, which begins at 1."""
        return self.signed.version

    @property
    def expires(self) -> datetime:
        """Return until when it may be relied on."""
        return when(self.signed.expires, "root: expires")

    @property
    def threshold(self) -> int:
        """Return how many keys must have signed a bundle."""
        return self.signed.roles[BUNDLES].threshold

    def bundle_keys(self) -> tuple[PublicKey, ...]:
        """Return the keys whose signatures on bundles count."""
        return self._keys(BUNDLES)

    def _keys(self, role: str) -> tuple[PublicKey, ...]:
        """Return a role's keys, each once whatever it is called."""
        try:
            keys = [
                public_key(name[:16], self.signed.keys[name].keyval.public, "root: a key")
                for name in self.signed.roles[role].keyids
            ]
        except ConfigError as error:
            raise TrustError(error.message, hint=_DAMAGED) from None
        return tuple({key.id: key for key in keys}.values())

    def count(self, role: str, of: SignedRoot) -> int:
        """Return how many of this root's keys for ``role`` signed the document ``of``."""
        message = canonical(documents.encode(of.signed))
        signatures = [bytes.fromhex(each.sig) for each in of.signatures]
        return sum(any(is_signed_by(key, sig, message) for sig in signatures) for key in self._keys(role))


# --- on the device ----------------------------------------------------------------------------------------------------


def read_root(path: Path) -> SignedRoot:
    """Return a root that is signed by enough of its own keys. Raises ``TrustError``; ``ConfigError`` without one."""
    return parse_root(_read(path), str(path))


def read_unsigned(path: Path) -> SignedRoot:
    """Return a root that need not have all its signatures yet. Raises as ``read_root``."""
    return _parse(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, LIMIT_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the root of trust {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="put the first one there by hand; later ones are taken with 'edgepack root take'",
        ) from None


def parse_root(text: bytes, where: str) -> SignedRoot:
    """Return the root in ``text``, signed by enough of its own keys. Raises ``TrustError``."""
    found = _parse(text, where)
    _enough(found, found, where, "its own")
    return found


def _parse(text: bytes, where: str) -> SignedRoot:
    try:
        found = documents.from_json(SignedRoot, text, where)
    except ConfigError as error:
        raise TrustError(error.message[:400], hint=_DAMAGED) from None
    for problem in _problems(found):
        raise TrustError(f"{where} is not a root of trust: {problem}", hint=_DAMAGED)
    return found


def next_root(trusted: SignedRoot, text: bytes, where: str) -> SignedRoot:
    """Return the root in ``text`` when ``trusted`` hands over to it (TUF 5.3.4 and 5.3.5). Raises ``TrustError``."""
    found = parse_root(text, where)
    if found.version <= trusted.version:
        raise TrustError(
            f"{where} is version {found.version} of the root of trust, and this device has {trusted.version} already: "
            "it does not go back",
            hint="get the newest",
        )
    if found.version != trusted.version + 1:
        raise TrustError(
            f"{where} is version {found.version} of the root of trust, and the next after {trusted.version} is needed",
            hint=_NEXT,
        )
    _enough(trusted, found, where, "the present root's")
    return found


def take_roots(place: Path, texts: Iterable[tuple[str, bytes]], now: datetime) -> SignedRoot:
    """Follow a chain of roots from the one in ``place`` and put the last there; all of them or none.

    Those on the way may be out of date, the last may not (TUF 5.3.10). Raises ``TrustError``.
    """
    trusted, last = read_root(place), b""
    for where, text in texts:
        trusted, last = next_root(trusted, text, where), text
    refuse_expired(trusted, now, "the newest root of trust that was given")
    if last:
        with atomic_write(place) as file:
            file.write(last)
    return trusted


def refuse_expired(root: SignedRoot, now: datetime, what: str) -> None:
    """Raise ``TrustError`` when a root is out of date: whoever keeps newer ones away could bring revoked keys back."""
    if now >= root.expires:
        raise TrustError(
            f"{what}, version {root.version}, has been out of date since {root.signed.expires}",
            hint="get a newer one and take it with 'edgepack root take', or set this machine's clock",
        )


def _enough(judge: SignedRoot, found: SignedRoot, where: str, whose: str) -> None:
    needed = judge.signed.roles[ROOT].threshold
    have = judge.count(ROOT, found)
    if have < needed:
        raise TrustError(
            f"{where} is signed by {have} of {whose} root keys, and {needed} are needed",
            hint="get it from whoever signs your bundles",
        )


def _problems(found: SignedRoot) -> Iterable[str]:
    root = found.signed
    if root._type != ROOT or not root.spec_version.startswith("1."):
        yield "it is another document"
    if root.version < 1:
        yield "its version is below 1"
    if len(root.keys) > MOST_KEYS or len(found.signatures) > MOST_KEYS:
        yield f"it has more than {MOST_KEYS} keys or signatures"
    when(root.expires, "root: expires")
    for key in root.keys.values():
        if (key.keytype, key.scheme) != (KEY_TYPE, SCHEME):
            yield f"a key is {key.keytype[:40]} {key.scheme[:40]}; edgepack has {KEY_TYPE} {SCHEME}"
    for name in (ROOT, BUNDLES):
        yield from _role_problems(root, name)
    for each in found.signatures:
        try:
            bytes.fromhex(each.sig)
        except ValueError:
            yield "a signature is not hexadecimal"


def _role_problems(root: Root, name: str) -> Iterable[str]:
    role = root.roles.get(name)
    if role is None:
        yield f"it has no role {name}"
    elif role.threshold < 1 or len(set(role.keyids)) < role.threshold:
        yield f"its role {name} needs {role.threshold} of {len(set(role.keyids))} keys"
    elif not set(role.keyids) <= set(root.keys):
        yield f"its role {name} names a key that is not there"


def canonical(value: Any) -> bytes:
    """Return a JSON value in the canonical form that TUF signs (OLPC): sorted keys, no spaces, no floats."""
    if isinstance(value, dict):
        pairs = (canonical(key) + b":" + canonical(value[key]) for key in sorted(value))
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, str):
        return b'"' + value.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
    if value is None or isinstance(value, bool | int):
        return json.dumps(value).encode()
    raise TypeError(f"canonical JSON has no {type(value).__name__}")


# --- where keys are made ----------------------------------------------------------------------------------------------


def make_root(
    root_keys: tuple[PublicKey, ...],
    bundle_keys: tuple[PublicKey, ...],
    expires: datetime,
    previous: SignedRoot | None = None,
    root_threshold: int = 1,
    bundle_threshold: int = 1,
) -> SignedRoot:
    """Return the first root, or the next after ``previous``, without a signature. Raises ``ConfigError``."""
    bundles = Role(tuple(key.id for key in bundle_keys), bundle_threshold)
    made = Root(
        _type=ROOT,
        spec_version=_SPEC_VERSION,
        version=previous.version + 1 if previous is not None else 1,
        expires=as_text(expires),
        keys={key.id: Key(KEY_TYPE, SCHEME, Value(key.pem)) for key in (*root_keys, *bundle_keys)},
        roles={
            ROOT: Role(tuple(key.id for key in root_keys), root_threshold),
            **dict.fromkeys((BUNDLES, "snapshot", "timestamp"), bundles),
        },
    )
    for problem in _problems(SignedRoot((), made)):
        raise ConfigError(f"this would not be a root of trust: {problem}", hint="give as many keys as are needed")
    return SignedRoot((), made)


def sign_root(root: SignedRoot, keys: Iterable[PrivateKey]) -> SignedRoot:
    """Return a root with the signatures of ``keys`` beside those that it has."""
    message = canonical(documents.encode(root.signed))
    new = {key.public.id: key.sign(message).hex() for key in keys}
    kept = tuple(each for each in root.signatures if each.keyid not in new)
    return dataclasses.replace(root, signatures=(*kept, *(RootSignature(*pair) for pair in new.items())))


def write_root(root: SignedRoot, path: Path) -> None:
    """Write the document, whole or not at all."""
    with atomic_write(path) as file:
        file.write(documents.to_json(root).encode())
