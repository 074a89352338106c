"""What is signed: an in-toto statement over every file of a bundle, with its provenance and its verification.

The statement is that of OpenSSF's model signing (predicate ``https://model_signing/signature/v1.0``): each file with
its sha256, the manifest among them, and a digest over all of them. Beside these, which other verifiers read, the
predicate holds ``edgepack`` (when it was signed, until when it holds, how it was verified) and ``provenance`` (a
predicate of SLSA 1.0). All of it is under one signature, so that no part can be taken from another statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edgepack.base import documents
from edgepack.bundle.archive import Bundle
from edgepack.bundle.layout import MANIFEST, SIGNATURE
from edgepack.errors import ConfigError, TrustError
from edgepack.specs.bundle import Manifest
from edgepack.specs.run import Verification
from edgepack.verify.golden import GOLDEN

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:edgepack:build:1"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SERIALIZATION = {
    "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE],
}  # fmt: skip
_FORGED = "the signature is another bundle's, or the bundle was changed after it was signed: get it again"


@dataclass(frozen=True)
class Signed:
    """What the signer says in ``predicate.edgepack``; times are UTC, as 2026-12-01T00:00:00Z.

    ``golden_sha256`` repeats the digest of the golden vectors that ``verification`` was made with.
    """

    signed_at: str
    expires: str | None = None
    golden_sha256: str | None = None
    verification: Verification | None = None


def make(bundle: Bundle, about: Signed, command: tuple[str, ...] = ()) -> bytes:
    """Return the statement over a bundle that was checked, as the bytes to sign; ``command`` is what built it."""
    digests = file_digests(bundle)
    predicate: dict[str, Any] = {
        "serialization": _SERIALIZATION,
        "resources": [
            {"name": name, "algorithm": "sha256", "digest": digests[name]} for name in sorted(digests, key=_in_folders)
        ],
        "edgepack": documents.encode(about),
        "provenance": {
            "predicateType": _PROVENANCE_TYPE,
            "predicate": _provenance(bundle.manifest, command),
        },
    }
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": bundle.manifest.name, "digest": {"sha256": _over_all(predicate["resources"])}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    return json.dumps(statement, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def check(payload: bytes, bundle: Bundle) -> Signed:
    """Return what the signer says when the statement is over this bundle, every file of it and no other.

    ``payload`` must have been signed by a trusted key. Raises ``TrustError`` for a statement over anything else.
    """
    where = f"{bundle.path}: the signed statement"
    try:
        data = documents.read_json(payload)
        if data["_type"] != STATEMENT_TYPE or data["predicateType"] != PREDICATE_TYPE:
            raise TrustError(f"{where} is of a different kind", hint=_FORGED)
        (subject,) = data["subject"]
        predicate = data["predicate"]
        resources = predicate["resources"]
        named = {str(each["name"]): str(each["digest"]) for each in resources if each["algorithm"] == "sha256"}
        whole = len(named) == len(resources) and subject["digest"]["sha256"] == _over_all(resources)
        by_files = predicate["serialization"]["method"] == "files"
        facts = predicate.get("edgepack")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrustError(f"{where} cannot be read: {str(error)[:200]}", hint=_FORGED) from None
    if not whole or not by_files:
        raise TrustError(f"{where} contradicts itself", hint=_FORGED)
    if named != file_digests(bundle):
        raise TrustError(f"{where} covers other files: {_difference(named, file_digests(bundle))}", hint=_FORGED)
    return _facts(facts, where, bundle)


def when(text: str, where: str) -> datetime:
    """Return a time of a document. Raises ``TrustError`` for what is not a time in UTC."""
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=timezone.utc)  # noqa: UP017 (Python 3.10)
    except ValueError:
        raise TrustError(f"{where}: {text[:40]!r} is not a time such as 2026-12-01T00:00:00Z", hint=_FORGED) from None


def as_text(moment: datetime) -> str:
    """Return a time as documents hold it."""
    return moment.strftime(_TIME)


def file_digests(bundle: Bundle) -> dict[str, str]:
    """Return the sha256 of every file of a checked bundle but the signature."""
    return {MANIFEST: bundle.manifest_sha256, **{entry.path: entry.sha256 for entry in bundle.manifest.files}}


def _facts(facts: Any, where: str, bundle: Bundle) -> Signed:
    """Return what edgepack's part says; a statement of another signer has none, and is never out of date."""
    if facts is None:
        return Signed("")
    try:
        found: Signed = documents.decode(Signed, facts, where)
    except ConfigError as error:
        raise TrustError(error.message[:400], hint="pip install --upgrade edgepack") from None
    golden = file_digests(bundle)[GOLDEN]
    if found.golden_sha256 not in (None, golden):
        raise TrustError(f"{where} was verified with other golden vectors", hint=_FORGED)
    return found


def _difference(named: Mapping[str, Any], here: Mapping[str, str]) -> str:
    for name in sorted({*named, *here}):
        if named.get(name) != here.get(name):
            how = "is not in it" if name not in named else "is not here" if name not in here else "is another"
            return f"{name[:80]!r} {how}"
    raise AssertionError("they are the same")


def _in_folders(name: str) -> tuple[str, ...]:
    return tuple(name.split("/"))


def _over_all(resources: list[Mapping[str, str]]) -> str:
    digest = hashlib.sha256()
    for each in resources:
        digest.update(bytes.fromhex(each["digest"]))
    return digest.hexdigest()


def _provenance(manifest: Manifest, command: tuple[str, ...]) -> dict[str, Any]:
    """Return a provenance predicate of SLSA 1.0: what went in, by digest, and which tools of which version."""
    sources = [{"name": "source model", "digest": {"sha256": manifest.source_sha256}}]
    if manifest.calibration_sha256:
        sources.append({"name": "calibration samples", "digest": {"sha256": manifest.calibration_sha256}})
    tools = [
        {"name": name, "uri": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"}
        for name, version in sorted(manifest.toolchain.items())
        if name != "python"
    ]
    asked = {
        "name": manifest.name, "version": manifest.version, "target": manifest.target,
        "precision": manifest.precision, "options": dict(sorted(manifest.options.items())), "command": list(command),
    }  # fmt: skip
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": asked,
            "internalParameters": {"python": manifest.toolchain.get("python", "")},
            "resolvedDependencies": [*sources, *tools],
        },
        "runDetails": {
            "builder": {"id": "urn:edgepack:builder", "version": {"edgepack": manifest.toolchain.get("edgepack", "")}}
        },
    }
