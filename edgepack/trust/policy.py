"""The policy of this device: whose bundles it takes, which of them, and until when.

It is ``policy.json``: of the system, and of ``$EDGEPACK_POLICY`` or else the user. What is there holds, all of it: a
user adds to what the system asks for and takes nothing away. Without a policy every bundle is taken that is whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from edgepack.base import documents
from edgepack.base.files import open_regular, read_regular
from edgepack.base.versions import is_older
from edgepack.bundle.archive import Bundle
from edgepack.bundle.payloads import is_native
from edgepack.errors import ConfigError, TrustError
from edgepack.specs.bundle import Manifest
from edgepack.trust.chain import certified_keys, read_authorities
from edgepack.trust.envelope import Envelope, signers
from edgepack.trust.keyless.bundle import Keyless
from edgepack.trust.keyless.certificate import Identity
from edgepack.trust.keyless.check import check_keyless
from edgepack.trust.keyless.trusted_root import read_trusted_root
from edgepack.trust.keys import PublicKey, read_folder, refuse_writable
from edgepack.trust.member import from_bytes
from edgepack.trust.root import LIMIT_BYTES, SignedRoot, read_root, refuse_expired, take_roots
from edgepack.trust.statement import Signed, as_text, check, when

VARIABLE = "EDGEPACK_POLICY"
SYSTEM_POLICY = Path("/etc/edgepack/policy.json")
NAME = "policy.json"
KEPT_VERSIONS = 3
_FORMAT = 1
_LIMIT_BYTES = 1 << 20
# A signature from the future says that this machine's clock is behind: by how much it may be.
CLOCKS_DIFFER = timedelta(days=1)
MOST_AGE_DAYS = 36_500
_NUMBER = re.compile("[0-9]")
_NOT_SIGNED = "get a signed one, or sign it with 'edgepack sign' and a key that this device trusts"


@dataclass(frozen=True)
class Policy:
    """What a device asks of bundles; ``policy.json``. Empty lists ask for nothing.

    ``keys`` is a folder of public keys (``keys`` where nothing says who signs) and ``threshold`` how many of them must
    have signed; ``root`` is a root of trust (``root.json``), which then says both. ``authorities`` is a folder of
    authorities' certificates instead, and ``signers`` the common names in the certificates that count, all where it is
    empty. ``sigstore`` is a trusted root of Sigstore (``trusted_root.json``), by which ``identities`` count that have
    signed without a key of their own, each once, beside ``keys`` or ``authorities`` where the policy names them. Paths
    are relative to the policy. ``lowest`` is the lowest version of each model, by its name. ``native`` says whether
    native code may run: as the device's settings say, or of every bundle that the policy takes, or never.
    ``max_age_days`` is how old a signature may be. ``keep`` is how many versions an installation keeps; the one in use
    and the one before stay in any case. What is installed already goes on running when its time is over; nothing more
    is taken in.
    """

    format: int
    require_signature: bool = False
    keys: str | None = None
    threshold: int = 1
    root: str | None = None
    authorities: str | None = None
    signers: tuple[str, ...] = ()
    sigstore: str | None = None
    identities: tuple[Identity, ...] = ()
    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    lowest: Mapping[str, str] = field(default_factory=dict)
    native: Literal["settings", "allowed", "refused"] = "settings"
    max_age_days: int | None = None
    keep: int = KEPT_VERSIONS

    @property
    def key_folder(self) -> str | None:
        """Return the folder of trusted keys, None where others than keys in a folder count."""
        if self.root is not None or self.authorities is not None:
            return None
        return self.keys if self.keys is not None or self.sigstore is not None else "keys"


@dataclass(frozen=True)
class Found:
    """A policy and where it stands."""

    path: Path
    policy: Policy


@dataclass(frozen=True)
class Admission:
    """Why a bundle was taken: by whom it is signed, and what they say; empty where nothing was asked.

    Signers are ``name id`` for keys and ``identity (issuer)`` for identities.

    ``native`` is what the policies say of native code, None where they leave it to the device's settings; ``keep`` is
    how many versions are kept.
    """

    signers: tuple[str, ...] = ()
    signed: Signed | None = None
    native: bool | None = None
    keep: int = KEPT_VERSIONS


def policies() -> tuple[Found, ...]:
    """Return all policies that hold here. Raises ``ConfigError`` and ``StorageError`` for one not to be believed."""
    return tuple(Found(path, _read(path)) for path in _places())


def admit(bundle: Bundle, *, new: bool = True, now: datetime | None = None) -> Admission:
    """Return why this device takes a bundle that was checked; ``new`` is False for one that is installed already.

    Raises ``TrustError`` when a policy does not let it in, ``ToolchainError`` when that cannot be found out here for
    lack of the package ``cryptography``, and what ``policies`` raises.
    """
    moment = now if now is not None else _now()
    admissions = [_admit(bundle, found, moment, new=new) for found in policies()]
    said = [each.native for each in admissions if each.native is not None]
    signed = [each for each in admissions if each.signed is not None]
    names = dict.fromkeys(name for each in admissions for name in each.signers)
    keep = min((each.keep for each in admissions), default=KEPT_VERSIONS)
    return Admission(tuple(names), signed[0].signed if signed else None, all(said) if said else None, keep)


def take(paths: tuple[Path, ...], into: Path | None = None) -> SignedRoot:
    """Replace this device's root of trust by newer ones, in turn; ``into`` is None for the one that its policy names.

    Raises ``ConfigError`` when there is none, ``TrustError`` when a root does not follow from the one before.
    """
    named = [each.path.parent / each.policy.root for each in policies() if each.policy.root is not None]
    if into is None and len(named) != 1:
        raise ConfigError(f"the policy of this device names {len(named)} roots of trust", hint="say which with --into")
    texts = []
    for path in paths:
        try:
            texts.append((str(path), read_regular(path, LIMIT_BYTES)))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="check the path") from None
    return take_roots(into if into is not None else named[0], texts, _now())


def describe_policies(found: tuple[Found, ...]) -> tuple[str, ...]:
    """Return lines for people: what each policy asks for."""
    if not found:
        return ("no policy: every undamaged bundle is accepted, signed or not",)
    return tuple(line for each in found for line in _describe(each))


def describe_admission(bundle: Bundle, admission: Admission) -> tuple[str, ...]:
    """Return lines for people: why a bundle is taken."""
    manifest = bundle.manifest
    lines = [f"{manifest.name} {manifest.version} for {manifest.target}, {manifest.precision}: accepted"]
    if admission.signers and admission.signed is not None:
        until = f", until {admission.signed.expires}" if admission.signed.expires else ""
        lines.append(
            f"  signed by {', '.join(admission.signers)} at {admission.signed.signed_at or 'no stated time'}{until}"
        )
    else:
        lines.append("  no signature is required here" + (", and it has one" if bundle.signature else ""))
    return tuple(lines)


def _describe(found: Found) -> Iterator[str]:
    policy = found.policy
    yield f"{found.path}:"
    if policy.require_signature:
        yield from _describe_signers(found)
    for name in ("models", "targets", "engines"):
        if values := getattr(policy, name):
            yield f"  {name}: {', '.join(values)}"
    for model, version in sorted(policy.lowest.items()):
        yield f"  {model}: {version} and newer"
    if policy.max_age_days is not None:
        yield f"  signed at most {policy.max_age_days} days ago"
    if policy.native != "settings":
        yield f"  native code is {policy.native}"


def _describe_signers(found: Found) -> Iterator[str]:
    policy = found.policy
    keys, needed, root = _trusted(found)
    begin = f"  signed by {needed} "
    if policy.sigstore is not None:
        read_trusted_root(found.path.parent / policy.sigstore)
        yield f"{begin}of these:"
        yield f"    without a key, by Sigstore ({policy.sigstore}): {', '.join(map(str, policy.identities))}"
        begin = "    "
    if policy.authorities is not None:
        whom = f", for {', '.join(policy.signers)}" if policy.signers else ""
        yield f"{begin}with certificates of {_vouching(found)}{whom}"
    elif policy.key_folder is not None or root is not None:
        by = f"root of trust {root.version}, until {root.signed.expires}" if root is not None else policy.key_folder
        of = "" if policy.sigstore is not None else "of "
        yield f"{begin}{of}{len(keys)} keys ({by}): {', '.join(f'{k.name} {k.id[:16]}' for k in keys)}"


def _vouching(found: Found) -> str:
    """Return the names of the authorities of a policy, after they were read."""
    assert found.policy.authorities is not None, "it was asked for"
    authorities = read_authorities(found.path.parent / found.policy.authorities)
    return " or ".join(each.subject.rfc4514_string() for each in authorities)


def _now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017 (Python 3.10)


def _admit(bundle: Bundle, found: Found, now: datetime, *, new: bool) -> Admission:
    policy = found.policy
    for problem in _unwanted(bundle.manifest, policy):
        raise TrustError(
            f"{bundle.path}: {problem} ({found.path})", hint="give a bundle for this device, or change its policy"
        )
    native = {"settings": None, "allowed": True, "refused": False}[policy.native]
    if not policy.require_signature:
        return Admission(native=native, keep=policy.keep)
    if bundle.signature is None:
        raise TrustError(f"{bundle.path} is not signed, and {found.path} requires it", hint=_NOT_SIGNED)
    signatures = from_bytes(bundle.signature, str(bundle.path))
    _, needed, root = _trusted(found)
    votes = list(_by_keys(signatures.envelope, found, now if new else None)) if signatures.envelope else []
    others, why_not = _by_identities(signatures.keyless, found)
    votes += others
    if len(votes) < needed:
        raise TrustError(_too_few(bundle, [vote.name for vote in votes], why_not, needed, found), hint=_NOT_SIGNED)
    said = {vote.payload: check(vote.payload, bundle) for vote in votes}
    says = [_dated(said[vote.payload], vote.at) for vote in votes]
    if new:
        for each in says:
            _refuse_late(bundle, each, policy, root, now)
    return Admission(tuple(vote.label for vote in votes), says[0], native, policy.keep)


@dataclass(frozen=True)
class _Vote:
    """A signature that counts: whose, over which statement, and when it was made where others than the signer say."""

    name: str
    label: str
    payload: bytes
    at: datetime | None = None


def _by_keys(envelope: Envelope, found: Found, now: datetime | None) -> Iterator[_Vote]:
    """Yield the keys that count; ``now`` is None for what is installed already."""
    policy = found.policy
    keys, _, _ = _trusted(found)
    if policy.authorities is not None:
        vouching = read_authorities(found.path.parent / policy.authorities)
        keys = certified_keys(envelope.certificates, vouching, now, policy.signers)
    for key in signers(envelope, keys):
        yield _Vote(key.name, f"{key.name} {key.id[:16]}", envelope.payload)


def _by_identities(signatures: tuple[Keyless, ...], found: Found) -> tuple[list[_Vote], list[str]]:
    """Return the identities that count, each once, and of the other keyless signatures why they do not."""
    policy = found.policy
    if policy.sigstore is None:
        return [], []
    trusted = read_trusted_root(found.path.parent / policy.sigstore)
    votes: dict[Identity, _Vote] = {}
    why_not = []
    for each in signatures:
        try:
            by = check_keyless(each, trusted)
        except ValueError as error:
            why_not.append(str(error))
            continue
        if by.identity in policy.identities:
            votes.setdefault(by.identity, _Vote(by.identity.identity, str(by.identity), each.payload, by.at))
        else:
            why_not.append(f"{by.identity} is none of its identities")
    return list(votes.values()), why_not


def _dated(says: Signed, at: datetime | None) -> Signed:
    """Return what a signer says, with the time that somebody else vouches for in the place of the signer's own."""
    return says if at is None else replace(says, signed_at=as_text(at))


def _unwanted(manifest: Manifest, policy: Policy) -> Iterator[str]:
    """Yield why a bundle is not one of those that the policy takes, whoever signed it."""
    if policy.models and manifest.name not in policy.models:
        yield f"the model {manifest.name} is not one of this device's ({', '.join(policy.models)})"
    if policy.targets and manifest.target not in policy.targets:
        yield f"it is for {manifest.target}, and this device is {' or '.join(policy.targets)}"
    if policy.engines:
        others = [payload.backend for payload in manifest.payloads if payload.backend not in policy.engines]
        if others:
            yield f"it has a payload for {others[0]}, and this device runs {' or '.join(policy.engines)} only"
    if policy.native == "refused" and any(is_native(payload) for payload in manifest.payloads):
        yield "it holds native code, which this device does not run"
    least = policy.lowest.get(manifest.name)
    if least is not None and is_older(manifest.version, least):
        yield f"version {manifest.version} of {manifest.name} is lower than {least}, the lowest that is taken"


def _trusted(found: Found) -> tuple[tuple[PublicKey, ...], int, SignedRoot | None]:
    """Return the keys that count, how many of them must have signed, and the root that says so."""
    folder, policy = found.path.parent, found.policy
    if policy.root is not None:
        root = read_root(folder / policy.root)
        refuse_writable(folder / policy.root)
        return root.bundle_keys(), root.threshold, root
    keys = read_folder(folder / policy.key_folder) if policy.key_folder is not None else ()
    return keys, policy.threshold, None


def _refuse_late(bundle: Bundle, says: Signed, policy: Policy, root: SignedRoot | None, now: datetime) -> None:
    """Raise ``TrustError`` for what is out of date, and where the clock is too wrong to tell."""
    where = str(bundle.path)
    at = when(says.signed_at, f"{where}: signed_at") if says.signed_at else None
    timed = root is not None or says.expires is not None or policy.max_age_days is not None
    if timed and at is not None and now < at - CLOCKS_DIFFER:
        raise TrustError(
            f"{where} was signed at {says.signed_at}, and this machine's clock says {now:%Y-%m-%dT%H:%M:%SZ}",
            hint="set the clock: without it nothing tells what is out of date",
        )
    if root is not None:
        refuse_expired(root, now, "the root of trust of this device")
    if says.expires is not None and now >= when(says.expires, f"{where}: expires"):
        raise TrustError(
            f"the signature of {where} has been out of date since {says.expires}", hint="get one that was signed later"
        )
    if policy.max_age_days is not None and (at is None or now > at + timedelta(days=policy.max_age_days)):
        said = says.signed_at or "a time that it does not say"
        raise TrustError(
            f"{where} was signed at {said}, more than {policy.max_age_days} days ago",
            hint="get one that was signed later",
        )


def _too_few(bundle: Bundle, by: list[str], why_not: list[str], needed: int, found: Found) -> str:
    whom = "keys" if found.policy.sigstore is None else "signers"
    have = (
        f"by {len(by)} of the {whom} that this device trusts ({', '.join(by)})"
        if by
        else f"by none of the {whom} that this device trusts"
    )
    reasons = f"; of its keyless signatures: {'; '.join(why_not)[:600]}" if why_not else ""
    return f"{bundle.path} is signed {have}, and {needed} must have signed it ({found.path}){reasons}"


# --- where policies are -----------------------------------------------------------------------------------------------


def _places() -> Iterator[Path]:
    if _is_there(SYSTEM_POLICY):
        yield SYSTEM_POLICY
    if named := os.environ.get(VARIABLE):
        yield Path(named).absolute()
        return
    home = os.environ.get("XDG_CONFIG_HOME")
    user = (Path(home) if home else Path.home() / ".config") / "edgepack" / NAME
    if _is_there(user):
        yield user.absolute()


def _is_there(path: Path) -> bool:
    """Say whether there is a policy; one that cannot be looked at is there, and then is not readable."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _read(path: Path) -> Policy:
    try:
        with open_regular(path) as file:
            text = file.read(_LIMIT_BYTES)
    except OSError as error:
        raise ConfigError(
            f"the policy {path} cannot be read: {error.strerror}", hint="make it readable for who runs bundles"
        ) from None
    refuse_writable(path)
    policy = documents.from_json(Policy, text, str(path))
    for problem in _problems(policy):
        raise ConfigError(f"{path}: {problem}", hint="correct the policy of this device")
    return policy


def _problems(policy: Policy) -> Iterator[str]:
    if policy.format != _FORMAT:
        yield f"it has format {policy.format}; this edgepack reads {_FORMAT}"
    if policy.threshold < 1:
        yield "threshold: at least 1 key must have signed"
    if policy.keep < 1:
        yield "keep: at least 1 version is kept"
    if policy.max_age_days is not None and not 1 <= policy.max_age_days <= MOST_AGE_DAYS:
        yield f"max_age_days: from 1 to {MOST_AGE_DAYS}"
    for model, version in sorted(policy.lowest.items()):
        if _NUMBER.match(version) is None:  # every version is as high as one without a number
            yield f"lowest: {version[:40]!r} of {model[:80]} does not begin with a number, as 1.2 does"
    yield from _signer_problems(policy)
    if not policy.require_signature:
        for name, asked in (
            ("root", policy.root is not None),
            ("authorities", policy.authorities is not None),
            ("sigstore", policy.sigstore is not None),
            ("threshold", policy.threshold > 1),
            ("max_age_days", policy.max_age_days is not None),
            ('native "allowed"', policy.native == "allowed"),
        ):
            if asked:
                yield f"{name} needs require_signature"


def _signer_problems(policy: Policy) -> Iterator[str]:
    if policy.root is not None and policy.authorities is not None:
        yield "root and authorities cannot be used together"
    if policy.root is not None and policy.sigstore is not None:
        yield "root and sigstore cannot be used together"
    if policy.signers and policy.authorities is None:
        yield "signers needs authorities"
    if bool(policy.identities) != (policy.sigstore is not None):
        yield "sigstore and identities need each other"
