"""Signs a bundle: the statement over its files, signed by one key or several, goes into the bundle as a member."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
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
from edgepack.trust.envelope import Envelope, from_bytes, signed, signers, to_bytes
from edgepack.trust.keys import PrivateKey, PublicKey
from edgepack.trust.statement import Signed, as_text, check, file_digests, make
from edgepack.verify.golden import GOLDEN

_EPOCH = "SOURCE_DATE_EPOCH"
_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True)
class SignedBundle:
    """A bundle that was signed: whose signatures are on it now, as ids of keys, and the digest of the file."""

    path: str
    sha256: str
    keyids: tuple[str, ...]
    signed: Signed


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
) -> SignedBundle:
    """Write ``out`` (None: ``bundle`` itself), whole or not at all: the same bundle with signatures of ``keys``.

    A bundle that is signed keeps its statement and its signatures, and gets more of them; with ``replace`` it gets a
    new statement. ``verification`` is what ``edgepack verify --json`` printed for this bundle and ``build`` the build's
    ``build.json``, whose command goes into the provenance. ``certificates`` (DER) say whose the keys are. Raises
    ``ConfigError`` for options that do not fit, ``TrustError`` when the present signature is over other files, and what
    ``open_bundle`` raises.
    """
    if certificates and not {key.public.id for key in keys} <= key_ids(certificates):
        raise ConfigError(
            "the certificates are not those of the keys that sign",
            hint="give the certificate of each --key, and theirs",
        )
    with open_checked(bundle) as (file, checked), scratch_folder() as scratch:
        present = None if replace or checked.signature is None else from_bytes(checked.signature, str(bundle))
        if present is not None:
            if expires is not None or verification is not None or build is not None:
                raise ConfigError(
                    f"{bundle} is signed, and its statement stays as it is",
                    hint="leave out --expires, --verification and --build, or give --replace",
                )
            says = check(present.payload, checked)
            held = (*present.certificates, *(each for each in certificates if each not in present.certificates))
            envelope = signed(present.payload, keys, present.signatures, held)
        else:
            says = _facts(checked, expires, verification)
            envelope = signed(make(checked, says, _command(checked, build)), keys, certificates=certificates)
        sources: dict[str, Source] = {}
        for i, entry in enumerate(checked.manifest.files):
            with (scratch / str(i)).open("wb") as copy:
                copy_member(checked, entry.path, file, copy)
            sources[entry.path] = measure(scratch / str(i))
        (scratch / SIGNATURE).write_bytes(to_bytes(envelope))
        sources[SIGNATURE] = measure(scratch / SIGNATURE)
        target = out if out is not None else bundle
        write_archive(target, read_member(checked, MANIFEST), sources)
    return SignedBundle(
        str(target), measure(target).sha256, tuple(each.keyid for each in envelope.signatures), says
    )  # fmt: skip


def who_signed(bundle: Bundle, keys: Iterable[PublicKey]) -> tuple[tuple[PublicKey, ...], Signed | None]:
    """Return which of ``keys`` signed a checked bundle, and what the statement says; nothing without a signature.

    Raises ``TrustError`` for a signature over anything else.
    """
    if bundle.signature is None:
        return (), None
    envelope: Envelope = from_bytes(bundle.signature, str(bundle.path))
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
