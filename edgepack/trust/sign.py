"""Signs a bundle: the statement over its files, signed by keys or without one, goes into the bundle as a member."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import read_regular, scratch_folder
from edgepack.bundle.archive import Bundle, Source, copy_member, measure, open_checked, read_member, write_archive
from edgepack.bundle.layout import MANIFEST, SIGNATURE
from edgepack.errors import ConfigError
from edgepack.specs.build import BuildResult
from edgepack.specs.run import Verification
from edgepack.trust.chain import key_ids
from edgepack.trust.envelope import Envelope, signed, signers
from edgepack.trust.keyless.bundle import from_file
from edgepack.trust.keys import PrivateKey, PublicKey
from edgepack.trust.member import Signatures, from_bytes, to_bytes
from edgepack.trust.statement import Signed, as_text, check, file_digests, make
from edgepack.verify.golden import GOLDEN

_EPOCH = "SOURCE_DATE_EPOCH"
_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True)
class SignedBundle:
    """A bundle that was signed: whose signatures are on it now, as ids of keys, and the digest of the file.

    ``signed`` is the statement that the keys have signed, or the first keyless one; ``keyless`` is how many there are.
    """

    path: str
    sha256: str
    keyids: tuple[str, ...]
    signed: Signed
    keyless: int = 0


def sign(
    bundle: Path,
    keys: tuple[PrivateKey, ...],
    out: Path | None = None,
    *,
    expires: datetime | None = None,
    verification: Path | None = None,
    build: Path | None = None,
    replace: bool = False,
    certificates: tuple[bytes, ...] = (),
    attached: tuple[Path, ...] = (),
    sigstore: Callable[[bytes], bytes] | None = None,
) -> SignedBundle:
    """Write ``out`` (None: ``bundle`` itself), whole or not at all: the same bundle with signatures of ``keys``.

    A bundle that is signed keeps its statement and its signatures, and gets more of them; with ``replace`` it gets a
    new statement. ``verification`` is what ``edgepack verify --json`` printed for this bundle and ``build`` the build's
    ``build.json``, whose command goes into the provenance. ``certificates`` (DER) say whose the keys are. ``attached``
    are keyless signatures over this bundle, as other programs wrote them, which are taken in after they were compared
    with the files; whether they count, each device finds out. ``sigstore`` signs a statement without a key
    (``sign_statement``): the one that the keys sign. Raises ``ConfigError`` for options that do not fit, ``TrustError``
    when a signature is over other files, and what ``open_bundle`` and ``sigstore`` raise.
    """
    if certificates and not {key.public.id for key in keys} <= key_ids(certificates):
        raise ConfigError(
            "the certificates are not those of the keys that sign",
            hint="give the certificate of each --key, and theirs",
        )
    if not keys and not attached and sigstore is None:
        hint = "give --key, or --sigstore or --attach for a signature without one"
        raise ConfigError("no key to sign with", hint=hint)
    with open_checked(bundle) as (file, checked), scratch_folder() as scratch:
        asked = _Asked(expires, verification, build)
        there = Signatures()
        if checked.signature is not None and not replace:
            there = from_bytes(checked.signature, str(bundle))
        envelope = _by_keys(checked, there.envelope, keys, certificates, asked, others=sigstore is not None)
        others = [from_file(_text(path), str(path)) for path in attached]
        if sigstore is not None:
            others.append(from_file(sigstore(envelope.payload), "Sigstore's answer"))
        for each in others:
            check(each.payload, checked)
        keyless = tuple(dict.fromkeys((*there.keyless, *others)))
        signatures = Signatures(envelope if envelope.signatures else None, keyless)
        sources: dict[str, Source] = {}
        for i, entry in enumerate(checked.manifest.files):
            with (scratch / str(i)).open("wb") as copy:
                copy_member(checked, entry.path, file, copy)
            sources[entry.path] = measure(scratch / str(i))
        (scratch / SIGNATURE).write_bytes(to_bytes(signatures))
        sources[SIGNATURE] = measure(scratch / SIGNATURE)
        target = out if out is not None else bundle
        write_archive(target, read_member(checked, MANIFEST), sources)
    keyids = tuple(each.keyid for each in envelope.signatures)
    payload = envelope.payload if keyids else keyless[0].payload
    return SignedBundle(str(target), measure(target).sha256, keyids, check(payload, checked), len(keyless))


@dataclass(frozen=True)
class _Asked:
    """What goes into a new statement."""

    expires: datetime | None
    verification: Path | None
    build: Path | None


def _by_keys(
    bundle: Bundle,
    present: Envelope | None,
    keys: tuple[PrivateKey, ...],
    certificates: tuple[bytes, ...],
    asked: _Asked,
    *,
    others: bool,
) -> Envelope:
    """Return the statement and the signatures that keys have on it from now on, maybe none.

    ``others`` says whether somebody signs the statement without a key.
    """
    if asked != _Asked(None, None, None) and (present is not None or not (keys or others)):
        raise ConfigError(
            f"{bundle.path} is signed, and its statement stays as it is" if present else "no new statement is signed",
            hint="leave out --expires, --verification and --build, or give --replace and --key",
        )
    if present is None:
        says = _facts(bundle, asked.expires, asked.verification)
        return signed(make(bundle, says, _command(bundle, asked.build)), keys, certificates=certificates)
    check(present.payload, bundle)
    held = (*present.certificates, *(each for each in certificates if each not in present.certificates))
    return signed(present.payload, keys, present.signatures, held)


def who_signed(bundle: Bundle, keys: Iterable[PublicKey]) -> tuple[tuple[PublicKey, ...], Signed | None]:
    """Return which of ``keys`` signed a checked bundle, and what their statement says; nothing where none has.

    Raises ``TrustError`` for a signature over anything else.
    """
    if bundle.signature is None:
        return (), None
    envelope = from_bytes(bundle.signature, str(bundle.path)).envelope
    if envelope is None:
        return (), None
    return signers(envelope, keys), check(envelope.payload, bundle)


def _facts(bundle: Bundle, expires: datetime | None, verification: Path | None) -> Signed:
    now = _now()
    if expires is not None and expires <= now:
        raise ConfigError(f"the signature would be out of date at once: it is {as_text(now)}", hint="give a later date")
    says = Signed(as_text(now), as_text(expires) if expires is not None else None, file_digests(bundle)[GOLDEN])
    if verification is None:
        return says
    found = documents.from_json(Verification, _text(verification), str(verification))
    outputs = {output.name for output in bundle.manifest.outputs}
    if not found.passed:
        raise ConfigError(f"{verification} says that the outputs are out of tolerance", hint="build the bundle again")
    if {output.name for output in found.outputs} != outputs:
        raise ConfigError(f"{verification} is of another model", hint=f"edgepack verify {bundle.path} --json")
    return dataclasses.replace(says, verification=found)


def _command(bundle: Bundle, build: Path | None) -> tuple[str, ...]:
    """Return the command that built this bundle, by its digest in a build's rows."""
    if build is None:
        return ()
    rows = documents.from_json(BuildResult, _text(build), str(build)).rows
    for row in rows:
        if row.sha256 == bundle.sha256:
            return row.command
    raise ConfigError(f"no row of {build} is this bundle", hint="give the build.json that was written with it")


def _text(path: Path) -> bytes:
    try:
        return read_regular(path, _LIMIT_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", hint="check the path"
        ) from None


def _now() -> datetime:
    """Return the time in whole seconds; that of ``$SOURCE_DATE_EPOCH`` where it is set, so that builds repeat."""
    utc = timezone.utc  # noqa: UP017 (Python 3.10)
    if text := os.environ.get(_EPOCH):
        if not text.isdecimal() or len(text) > 11:
            raise ConfigError(f"{_EPOCH} is {text[:40]!r}", hint="write seconds since 1970, or unset it")
        return datetime.fromtimestamp(int(text), utc)
    return datetime.now(utc).replace(microsecond=0)
