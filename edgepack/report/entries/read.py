"""Reads results and builds from files and folders: untrusted documents, so everything is checked."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgepack.base import documents
from edgepack.base.files import open_regular
from edgepack.errors import ConfigError, StorageError
from edgepack.specs.build import BuildResult, BuildRow
from edgepack.specs.result import Result
from edgepack.trust.attest import signer
from edgepack.trust.keys import PublicKey

RESULT_FORMAT = 1
_LIMIT_BYTES = 64 << 20
_MOST_FILES = 10_000
# Without an escape, DEL or the first byte of a C1 control there is nothing to look for.
_MAY_BE_CONTROL = (b"\\", b"\x7f", b"\xc2")
# All controls but tab and line feed, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_HINT = "give files written by 'edgepack benchmark --out' or build.json of a build, or folders of them"


def read_results(
    paths: Sequence[Path], trusted: Sequence[PublicKey] = ()
) -> tuple[tuple[Result, ...], tuple[BuildRow, ...]]:
    """Return all results and build rows in ``paths``: JSON files, or folders that are searched for them.

    A file that is named must be one of both; in a folder other JSON files are passed over. The same result or row
    found twice counts once. Signed results are compared with the keys ``trusted``; the attestation says the outcome.
    Raises ``ConfigError`` naming the file, also when nothing is found.
    """
    results: dict[str, Result] = {}
    rows: dict[str, BuildRow] = {}
    for path, named in _files(paths):
        for identity, found in _read(path, named=named):
            if isinstance(found, Result):
                results.setdefault(identity, _attested(found, json.loads(identity), trusted))
            else:
                rows.setdefault(identity, found)
    if not results and not rows:
        where = ", ".join(str(path) for path in paths)
        raise ConfigError(f"{where}: no results found", hint=_HINT)
    return tuple(results.values()), tuple(rows.values())


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
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found = [(p, False) for p in sorted(path.rglob("*.json")) if p.is_file()]
        elif path.is_file():
            found = [(path, True)]
        else:
            raise ConfigError(f"there is no file or folder {path}", hint=_HINT)
        for file, named in found:
            place = file.resolve()
            if place not in seen:
                seen.add(place)
                yield file, named
        if len(seen) > _MOST_FILES:
            raise ConfigError(f"{path}: more than {_MOST_FILES} JSON files", hint="give the folder of the results only")


def _read(path: Path, *, named: bool) -> Iterator[tuple[str, Result | BuildRow]]:
    """Yield what a file holds, by what makes it the same; nothing for a document that was not asked for by name."""
    data = _load(path, named=named)
    if isinstance(data, dict) and "bundle_sha256" in data and "scenario" in data:
        _check_format(data, path)
        yield _identity(data), documents.decode(Result, data, str(path))
    elif isinstance(data, dict) and "rows" in data and "stages_run" in data:
        built: BuildResult = documents.decode(BuildResult, data, str(path))
        for row, written in zip(built.rows, data["rows"], strict=True):
            known = row if row.model else dataclasses.replace(row, model=built.name)
            yield _identity({**written, "model": known.model}), known
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


def _identity(written: Any) -> str:
    return json.dumps(written, sort_keys=True)
