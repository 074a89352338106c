"""Trusted roots: what a device takes for one, and for how long each part counts."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sigstore_double import AT, Sigstore

from edgepack.errors import ConfigError, StorageError
from edgepack.trust.keyless.trusted_root import parse_trusted_root, read_trusted_root

ROOT = Sigstore().trusted_root()


def parsed(document: Any) -> Any:
    return parse_trusted_root(json.dumps(document).encode(), "root.json")


def test_the_parts_of_a_root() -> None:
    found = parsed(ROOT)
    assert [len(each) for each in (found.logs, found.authorities, found.certificate_logs)] == [2, 1, 1]
    assert len(found.authorities[0].certificates) == 2
    assert parsed({**ROOT, "newer": {"members": 1}}) == found, "what a later version adds says nothing here"


@pytest.mark.parametrize(("fraction", "microseconds"), [("", 0), (".9", 900_000), (".999", 999_000), (".000000001", 0)])
def test_a_period_counts_both_its_ends(fraction: str, microseconds: int) -> None:
    document = copy.deepcopy(ROOT)
    document["tlogs"][0]["publicKey"]["validFor"]["end"] = f"{AT:%Y-%m-%dT%H:%M:%S}{fraction}Z"
    period = parsed(document).logs[0].period
    end = AT + timedelta(microseconds=microseconds)
    assert [period.holds(moment) for moment in (period.start, end)] == [True, True]
    moments = (period.start - timedelta(microseconds=1), end + timedelta(microseconds=1))
    assert [period.holds(moment) for moment in moments] == [False, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle.v0.3+json"), "another document"),
        (lambda d: d.pop("mediaType"), "is missing"),
        (lambda d: d.update(tlogs=[]), "names no log"),
        (lambda d: d.update(certificateAuthorities=[]), "no certificate authority"),
        (lambda d: d["certificateAuthorities"][0]["certChain"].update(certificates=[]), "has no certificate"),
        (lambda d: d["tlogs"][0].update(hashAlgorithm="SHA2_512"), "has the hash"),
        (lambda d: d["tlogs"][0]["publicKey"]["validFor"].pop("start"), "'start' is missing"),
        (lambda d: d["tlogs"][0]["publicKey"]["validFor"].update(end="tomorrow"), "not a time"),
        (lambda d: d["tlogs"][0]["publicKey"]["validFor"].update(end="2026-13-01T00:00:00Z"), r".+"),
        (lambda d: d["tlogs"][0]["logId"].update(keyId="!"), "not base64"),
        (lambda d: d.update(ctlogs=[1]), r".+"),
        (lambda d: d.update(ctlogs={"a": 1}), r".+"),
    ],
)
def test_what_is_no_root_is_refused(change: Any, words: str) -> None:
    document = copy.deepcopy(ROOT)
    change(document)
    with pytest.raises(ConfigError, match=f"root.json is not a trusted root: .*{words}"):
        parsed(document)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"7", b"{}", b"\xff"])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="is not a trusted root"):
        parse_trusted_root(text, "root.json")


def test_a_root_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trusted_root.json"
    path.write_text(json.dumps(ROOT))
    assert read_trusted_root(path) == parsed(ROOT)
    path.chmod(0o666)
    with pytest.raises(StorageError, match="writable by other users"):
        read_trusted_root(path)
    with pytest.raises(ConfigError, match=r"cannot be read: No such file"):
        read_trusted_root(tmp_path / "nowhere.json")
