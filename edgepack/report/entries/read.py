"""Reads results and builds from files and folders: untrusted documents, so everything is checked."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgepack.base import documents
from edgepack.base.files import open_regular
from edgepack.base.missing import nothing_at
from edgepack.errors import ConfigError, StorageError
from edgepack.report.entries.impossible import impossible
from edgepack.specs.build import BuildResult, BuildRow
from edgepack.specs.result import Result
from edgepack.trust.attest import signer
from edgepack.trust.keys import PublicKey

T = TypeVar("T")
RESULT_FORMAT = 1
_LIMIT_BYTES = 64 << 20
_MOST_FILES = 10_000
# Without an escape, DEL or the first byte of a C1 control there is nothing to look for.
_MAY_BE_CONTROL = (b"\\", b"\x7f", b"\xc2")
# All controls but tab and line feed, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_ZIP = b"PK\x03\x04"
_HINT = "give files written by 'edgepack benchmark --out' or build.json of a build, or folders of them"


def read_results(
    paths: Sequence[Path], trusted: Sequence[PublicKey] = ()
) -> tuple[tuple[Result, ...], tuple[BuildRow, ...]]:
    """Return all results and build rows in ``paths``: JSON files, or folders that are searched for them.

    A file that is named must be one of both; in a folder other JSON files are passed over. The same result or row
    found twice counts once. Signed results are compared with the keys ``trusted``; the attestation says the outcome.
    Raises ``ConfigError`` naming the file, also when nothing is found.
    """
    results, rows = _Once[Result](), _Once[BuildRow]()
    for path, named in _files(paths):
        for written, found in _read(path, named=named):
            if problem := impossible(found):
                raise ConfigError(f"{path}: {problem}, which no measurement gives", hint="measure it again")
            if isinstance(found, Result):
                finish = functools.partial(_attested, written=written, trusted=trusted)
                results.add((found.bundle_sha256, found.measured_at), found, finish)
            else:
                rows.add((found.sha256, found.target, found.precision, found.model), found)
    if not results.found and not rows.found:
        where = ", ".join(str(path) for path in paths)
        raise ConfigError(f"{where}: no results found", hint=_HINT)
    return tuple(results.found), tuple(rows.found)


class _Once(Generic[T]):
    """Keeps what is found once. Only what has the same bundle and time is compared as a whole, so that is rare."""

    def __init__(self) -> None:
        self.found: list[T] = []
        self._alike: dict[object, T | set[str]] = {}  # the first of its kind, or the identities of several

    def add(self, kind: object, value: T, finish: Callable[[T], T] = lambda value: value) -> None:
        """Take in a value unless it is there already; ``finish`` makes of it what is kept."""
        known = self._alike.setdefault(kind, value)
        if known is not value:
            identities = known if isinstance(known, set) else {_identity(known)}
            self._alike[kind] = identities
            before, identity = len(identities), _identity(value)
            identities.add(identity)
            if len(identities) == before:
                return
        self.found.append(finish(value))


def _attested(result: Result, written: dict[str, Any], trusted: Sequence[PublicKey]) -> Result:
    """Return the result with what is to be said of its signature."""
    if result.attestation is None:
        return result
    try:
        key = signer(written, result.attestation, trusted)
    except ConfigError as error:
        return _judged(result, f"the signature is wrong: {error.message}", trusted=False)
    if key is None:
        return _judged(
            result, f"signed by {result.attestation.keyid[:16]}, a key that is not trusted here", trusted=False
        )
    return _judged(result, f"signed by {key.name} {key.id[:16]}", trusted=True)


def _judged(result: Result, verdict: str, *, trusted: bool) -> Result:
    assert result.attestation is not None
    return dataclasses.replace(
        result, attestation=dataclasses.replace(result.attestation, verdict=verdict, trusted=trusted)
    )


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each JSON file once, and whether it was named itself."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        if path.is_dir():
            found = [(p, False) for p in sorted(path.rglob("*.json"))]
        elif path.is_file():
            found = [(path, True)]
        else:
            message, hint = nothing_at(path, _HINT, what="file or folder", suffixes=(".json",))
            raise ConfigError(message, hint=hint)
        for file, named in found:
            place = _place(file)
            if place is not None and place not in seen:
                seen.add(place)
                yield file, named
        if len(seen) > _MOST_FILES:
            raise ConfigError(f"{path}: more than {_MOST_FILES} JSON files", hint="give the folder of the results only")


def _place(path: Path) -> tuple[int, int] | None:
    """Return what tells a regular file from all others, by whatever name; None for what is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _read(path: Path, *, named: bool) -> Iterator[tuple[dict[str, Any], Result | BuildRow]]:
    """Yield what a file holds, as it is written there too; nothing for a document that was not asked for by name."""
    data = _load(path, named=named)
    if isinstance(data, dict) and "bundle_sha256" in data and "scenario" in data:
        _check_format(data, path)
        yield data, documents.decode(Result, data, str(path))
    elif isinstance(data, dict) and "rows" in data and "stages_run" in data:
        built: BuildResult = documents.decode(BuildResult, data, str(path))
        for row, written in zip(built.rows, data["rows"], strict=True):
            known = row if row.model else dataclasses.replace(row, model=built.name)
            yield written, known
    elif named:
        raise ConfigError(f"{path} is neither a result nor a build", hint=_HINT)


def _load(path: Path, *, named: bool) -> Any:
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _LIMIT_BYTES:
                raise ConfigError(f"{path} is larger than {_LIMIT_BYTES >> 20} MiB: not a result", hint=_HINT)
            text = file.read(_LIMIT_BYTES)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", hint="make it readable") from None
    try:
        data = documents.read_json(text)
        if any(byte in text for byte in _MAY_BE_CONTROL):
            _check_strings(data)
    except ValueError as error:
        if not named and not _claims_to_be_ours(text):
            return None
        if text.startswith(_ZIP):
            raise ConfigError(f"{path} is a zip file, as bundles are, and not a result", hint=_HINT) from None
        raise ConfigError(f"{path}: not valid JSON: {str(error)[:200]}", hint="copy the file again") from None
    return data


def _claims_to_be_ours(text: bytes) -> bool:
    """Say whether damaged text was one of our documents, whose loss must not pass in silence."""
    return b'"bundle_sha256"' in text or b'"stages_run"' in text


def _check_format(data: dict[str, Any], path: Path) -> None:
    found = data.get("format")
    if type(found) is int and found > RESULT_FORMAT:
        raise ConfigError(
            f"{path} has result format {found}; this edgepack reads up to {RESULT_FORMAT}",
            hint="pip install --upgrade edgepack",
        )


def _check_strings(data: Any) -> None:
    """Refuse text that would act on a terminal or cannot be written: control characters and lone surrogates."""
    pending, texts = [data], []
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, dict):
            texts += item
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    if _UNPRINTABLE.search("".join(texts)):
        text = next(text for text in texts if _UNPRINTABLE.search(text))
        raise ValueError(f"text with control characters: {text[:60]!a}")


def _identity(found: Any) -> str:
    return json.dumps(documents.encode(found), sort_keys=True)
