"""The record of an output in a shared store: which stage made it, what it returned, and the digest of each file.

A record may come from anybody who can write to the store, so that every name, size and digest in it is checked before
anything is done with it. With a key of the team's it carries a proof (HMAC-SHA256, RFC 2104) that one of them wrote
it.
"""

from __future__ import annotations

import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.base import documents
from edgepack.base.files import read_regular, sha256_json
from edgepack.errors import ConfigError

MOST_BYTES = 16 << 20
_MOST_FILES = 10_000
_MOST_FILE_BYTES = 1 << 40
_LEAST_SECRET, _MOST_SECRET = 32, 4096
_KEY = re.compile("[0-9a-f]{64}")
_STAGE = re.compile("[a-z][a-z0-9_]{0,63}")
_NAME_PART = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")
_MOST_NAME_BYTES, _MOST_PART_BYTES = 1024, 255  # as file systems have it
_FORMAT = 1


class BadRecordError(Exception):
    """What stands under the name of a record is not one that may be used."""


@dataclass(frozen=True)
class Blob:
    """The contents of a file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """An output of a stage: ``files`` by their relative names, ``value`` as JSON types, as the local store keeps it.

    ``digest`` is of all that stands before it. ``proof`` is the HMAC of the digest.
    """

    format: int
    stage: str
    version: int
    key: str
    files: Mapping[str, Blob]
    value: Any
    digest: str = ""
    proof: str = ""

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(blob.size_bytes for blob in self.files.values())


def make_record(key: str, document: Mapping[str, Any]) -> Record:
    """Return the record of an entry of the local store, from its document."""
    files = {name: Blob(size, digest) for name, (size, digest) in document["files"].items()}
    return Record(_FORMAT, document["stage"], document["version"], key, files, document["value"])


def document_of(record: Record) -> dict[str, Any]:
    """Return the document of the local store for a record."""
    files = {name: [blob.size_bytes, blob.sha256] for name, blob in record.files.items()}
    return {"stage": record.stage, "version": record.version, "files": files, "value": record.value}


def write_record(record: Record, secret: bytes | None) -> bytes:
    """Return a record as bytes, with its digest and, given a secret, the proof."""
    digest = _digest(record)
    proof = _proof(digest, secret) if secret is not None else ""
    return documents.to_json(replace(record, digest=digest, proof=proof)).encode()


def read_record(data: bytes, stage: str, key: str, secret: bytes | None) -> Record:
    """Return the record of the output ``key`` of ``stage``. Raises ``BadRecordError`` in words."""
    try:
        record: Record = documents.from_json(Record, data, "the record")
    except (ConfigError, UnicodeDecodeError) as error:
        raise BadRecordError(getattr(error, "message", "it is not UTF-8")) from None
    if record.format != _FORMAT:
        raise BadRecordError(f"it has format {record.format}, this edgepack reads {_FORMAT}")
    if (record.stage, record.key) != (stage, key):
        raise BadRecordError("it is of another output")
    if not hmac.compare_digest(record.digest.encode(), _digest(record).encode()):
        raise BadRecordError("its digest does not match")
    if secret is not None and not hmac.compare_digest(record.proof.encode(), _proof(record.digest, secret).encode()):
        raise BadRecordError("it was not written with the key of this store (EDGEPACK_STORE_KEY)")
    _check_files(record.files)
    return record


def is_stage(name: str) -> bool:
    """Say whether a stage may have this name."""
    return bool(_STAGE.fullmatch(name))


def is_key(name: str) -> bool:
    """Say whether ``name`` is a sha256 in hex: of an output's inputs, or of a blob."""
    return bool(_KEY.fullmatch(name))


def read_secret(path: Path) -> bytes:
    """Return the key of a store from its file. Raises ``ConfigError`` for one that others may read, or too short."""
    try:
        secret = read_regular(path, _MOST_SECRET).strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"EDGEPACK_STORE_KEY: cannot read {path}: {error.strerror}", hint=_HINT) from None
    if mode & 0o077:
        raise ConfigError(f"EDGEPACK_STORE_KEY: other users can read {path}", hint=f"chmod 600 {path}")
    if len(secret) < _LEAST_SECRET:
        raise ConfigError(f"EDGEPACK_STORE_KEY: {path} has fewer than {_LEAST_SECRET} bytes", hint=_HINT)
    return secret


_HINT = "make one with: (umask 077; head -c 32 /dev/urandom | base64 > store.key)"


def _digest(record: Record) -> str:
    bare = replace(record, digest="", proof="")
    return sha256_json(documents.encode(bare))


def _proof(digest: str, secret: bytes) -> str:
    return hmac.new(secret, digest.encode(), "sha256").hexdigest()


def _check_files(files: Mapping[str, Blob]) -> None:
    if len(files) > _MOST_FILES:
        raise BadRecordError(f"it has more than {_MOST_FILES} files")
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
    for name, blob in files.items():
        if name in folders or not _is_name(name):
            raise BadRecordError(f"{json.dumps(name)[:100]} cannot be the name of a file in it")
        if not _KEY.fullmatch(blob.sha256):
            raise BadRecordError("a file's sha256 is not valid")
        if not 0 <= blob.size_bytes <= _MOST_FILE_BYTES:
            raise BadRecordError(f"a file has {blob.size_bytes} bytes")


def _is_name(name: str) -> bool:
    """Say whether a file of an entry may have this name, on any file system."""
    try:
        parts = [os.fsencode(part) for part in name.split("/")]
    except UnicodeEncodeError:
        return False
    if name == "_value.json" or len(os.fsencode(name)) > _MOST_NAME_BYTES:
        return False
    plain = all(part not in (".", "..") and _NAME_PART.fullmatch(part) for part in name.split("/"))
    return plain and all(len(part) <= _MOST_PART_BYTES for part in parts)
