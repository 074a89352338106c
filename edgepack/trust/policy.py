"""The policy of this device: whose bundles it takes, which of them, and until when.

It is ``policy.json``: of the system, and of ``$EDGEPACK_POLICY`` or else the user. What is there holds, all of it: a
user adds to what the system asks for and takes nothing away. Without a policy every bundle is taken that is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from edgepack.trust.envelope import from_bytes, signers
from edgepack.trust.keys import PublicKey, read_folder, refuse_writable
from edgepack.trust.root import LIMIT_BYTES, SignedRoot, read_root, refuse_expired, take_roots
from edgepack.trust.statement import Signed, check, when

VARIABLE = "EDGEPACK_POLICY"
SYSTEM_POLICY = Path("/etc/edgepack/policy.json")
NAME = "policy.json"
KEPT_VERSIONS = 3
_FORMAT = 1
_LIMIT_BYTES = 1 << 20
# A signature from the future says that this machine's clock is behind: by how much it may be.
CLOCKS_DIFFER = timedelta(days=1)
_NOT_SIGNED = "get a signed one, or sign it with 'edgepack sign' and a key that this device trusts"


@dataclass(frozen=True)
class Policy:
    """What a device asks of bundles; ``policy.json``. Empty lists ask for nothing.

    ``keys`` is a folder of public keys and ``threshold`` how many of them must have signed; ``root`` is a root of trust
    (``root.json``), which then says both. ``authorities`` is a folder of authorities' certificates instead, and
    ``signers`` the common names in the certificates that count, all where it is empty. Paths are relative to the
    policy. ``lowest`` is the lowest version of each model, by its name. ``native`` says whether native code may run: as
    the device's settings say, or of every bundle that the policy takes, or never. ``max_age_days`` is how old a
    signature may be. ``keep`` is how many versions an installation keeps; the one in use and the one before stay in any
    case. What is installed already goes on running when its time is over; nothing more is taken in.
    """

    format: int
    require_signature: bool = False
    keys: str = "keys"
    threshold: int = 1
    root: str | None = None
    authorities: str | None = None
    signers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    lowest: Mapping[str, str] = field(default_factory=dict)
    native: Literal["settings", "allowed", "refused"] = "settings"
    max_age_days: int | None = None
    keep: int = KEPT_VERSIONS


@dataclass(frozen=True)
class Found:
    """A policy and where it stands."""

    path: Path
    policy: Policy


@dataclass(frozen=True)
class Admission:
    """Why a bundle was taken: by whom it is signed, as ``name id``, and what they say; empty where nothing was asked.

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
        return ("no policy: every bundle is taken that is whole, signed or not",)
    return tuple(line for each in found for line in _describe(each))


def describe_admission(bundle: Bundle, admission: Admission) -> tuple[str, ...]:
    """Return lines for people: why a bundle is taken."""
    manifest = bundle.manifest
    lines = [f"{manifest.name} {manifest.version} for {manifest.target}, {manifest.precision}: taken"]
    if admission.signers and admission.signed is not None:
        until = f", until {admission.signed.expires}" if admission.signed.expires else ""
        lines.append(
            f"  signed by {', '.join(admission.signers)} at {admission.signed.signed_at or 'no stated time'}{until}"
        )
    else:
        lines.append("  no signature is asked for here" + (", and it has one" if bundle.signature else ""))
    return tuple(lines)


def _describe(found: Found) -> Iterator[str]:
    policy = found.policy
    yield f"{found.path}:"
    if policy.require_signature and policy.authorities is not None:
        whom = f", for {', '.join(policy.signers)}" if policy.signers else ""
        yield f"  signed by {policy.threshold} with certificates of {_vouching(found)}{whom}"
    elif policy.require_signature:
        keys, needed, root = _trusted(found)
        by = f"root of trust {root.version}, until {root.signed.expires}" if root is not None else policy.keys
        yield f"  signed by {needed} of {len(keys)} keys ({by}): {', '.join(f'{k.name} {k.id[:16]}' for k in keys)}"
    for name in ("models", "targets", "engines"):
        if values := getattr(policy, name):
            yield f"  {name}: {', '.join(values)}"
    for model, version in sorted(policy.lowest.items()):
        yield f"  {model}: {version} and newer"
    if policy.max_age_days is not None:
        yield f"  signed at most {policy.max_age_days} days ago"
    if policy.native != "settings":
        yield f"  native code is {policy.native}"


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
    envelope = from_bytes(bundle.signature, str(bundle.path))
    keys, needed, root = _trusted(found)
    if policy.authorities is not None:
        vouching = read_authorities(found.path.parent / policy.authorities)
        keys = certified_keys(envelope.certificates, vouching, now if new else None, policy.signers)
    by = signers(envelope, keys)
    if len(by) < needed:
        raise TrustError(_too_few(bundle, by, needed, found), hint=_NOT_SIGNED)
    says = check(envelope.payload, bundle)
    if new:
        _refuse_late(bundle, says, policy, root, now)
    return Admission(tuple(f"{key.name} {key.id[:16]}" for key in by), says, native, policy.keep)


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
    if policy.authorities is not None:
        return (), policy.threshold, None
    keys = read_folder(folder / policy.keys)
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


def _too_few(bundle: Bundle, by: tuple[PublicKey, ...], needed: int, found: Found) -> str:
    names = ", ".join(key.name for key in by)
    have = (
        f"by {len(by)} of the keys that this device trusts ({names})"
        if by
        else "by none of the keys that this device trusts"
    )
    return f"{bundle.path} is signed {have}, and {needed} must have signed it ({found.path})"


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
    if policy.max_age_days is not None and policy.max_age_days < 1:
        yield "max_age_days: at least 1"
    if policy.root is not None and policy.authorities is not None:
        yield "root and authorities cannot be used together"
    if policy.signers and policy.authorities is None:
        yield "signers needs authorities"
    if not policy.require_signature:
        for name, asked in (
            ("root", policy.root is not None),
            ("authorities", policy.authorities is not None),
            ("threshold", policy.threshold > 1),
            ("max_age_days", policy.max_age_days is not None),
            ('native "allowed"', policy.native == "allowed"),
        ):
            if asked:
                yield f"{name} needs require_signature"
