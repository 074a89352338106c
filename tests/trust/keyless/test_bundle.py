"""The form of keyless signatures: others' are taken in, a bundle holds one form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sigstore_double import Sigstore, text64

from edgepack.errors import ConfigError
from edgepack.trust.keyless.bundle import from_file, from_line

SIGSTORE = Sigstore()


def document(**other: Any) -> dict[str, Any]:
    return SIGSTORE.signed(b"{}", **other)


def test_what_other_programs_write_is_brought_into_one_form() -> None:
    made = document()
    plain = from_file(json.dumps(made).encode(), "x")
    assert from_line(plain.line, "x") == plain
    spaced = json.dumps({**made, "dsseEnvelope": dict(reversed(made["dsseEnvelope"].items()))}, indent=4).encode()
    assert from_file(spaced, "x") == plain
    named = {**made["dsseEnvelope"], "signatures": [{**made["dsseEnvelope"]["signatures"][0], "keyid": "mine"}]}
    assert from_file(json.dumps({**made, "dsseEnvelope": named}).encode(), "x") == plain
    older = {**made, "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.3"}
    assert from_file(json.dumps(older).encode(), "x") == plain


def test_what_protobuf_leaves_out_is_0_or_nothing() -> None:
    made = document()
    (entry,) = made["verificationMaterial"]["tlogEntries"]
    del entry["logIndex"], entry["inclusionProof"]["logIndex"], entry["inclusionProof"]["hashes"]
    made["verificationMaterial"]["timestampVerificationData"] = {}
    made["dsseEnvelope"]["signatures"][0]["keyid"] = ""
    entry["inclusionPromise"] = None
    found = from_file(json.dumps(made).encode(), "x").entry
    assert (found.index, found.proof.index, found.proof.hashes, found.promise) == (0, 0, (), None)
    assert found.integrated is None, "a time that the log did not sign is none"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"), "of version 0.2"),
        (lambda d: d.update(mediaType="text/plain"), "not a Sigstore bundle"),
        (lambda d: d.update(messageSignature=d.pop("dsseEnvelope")), "over a file"),
        (lambda d: d.update(more=1), "unknown key"),
        (lambda d: d["verificationMaterial"].update(publicKey={"hint": "x"}), "unknown key"),
        (lambda d: d["dsseEnvelope"].update(payload="!"), "not base64"),
        (lambda d: d["dsseEnvelope"].update(payload="e31="), "one form"),
        (lambda d: entry(d).update(logIndex="-1"), "not a whole number"),
        (lambda d: entry(d).update(logIndex="01"), "begins with 0"),
        (lambda d: entry(d).update(logIndex="9" * 19), "not a whole number"),
        (lambda d: entry(d).update(integratedTime="soon"), "not a whole number"),
        (lambda d: entry(d)["inclusionProof"].update(hashes=["AAAA"] * 65), "at most 64 hashes"),
        (lambda d: entry(d).update(canonicalizedBody=text64(b"x" * 300_000)), "at most"),
        (lambda d: stamps(d, ["AAAA"] * 2), "one twice"),
        (lambda d: stamps(d, ["AAAA", "AAAB", "AAAC", "AAAD", "AAAE"]), "more than 4 timestamps"),
    ],
)
def test_any_other_document_is_refused(change: Any, words: str) -> None:
    made = document()
    change(made)
    with pytest.raises(ConfigError, match=words):
        from_file(json.dumps(made).encode(), "x")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"1" * 100])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError):
        from_file(text, "x")


def test_a_line_has_one_form() -> None:
    line = from_file(json.dumps(document()).encode(), "x").line
    for other in (
        line + b" ",
        line.replace(b'"keyid":""', b'"keyid":"me"'),
        line.replace(b'"logIndex"', b' "logIndex"', 1),
        json.dumps(json.loads(line)).encode(),
    ):
        with pytest.raises(ConfigError, match="not in the form"):
            from_line(other, "x")


def entry(made: dict[str, Any]) -> dict[str, Any]:
    (found,) = made["verificationMaterial"]["tlogEntries"]
    return found  # type: ignore[no-any-return]


def stamps(made: dict[str, Any], texts: list[str]) -> None:
    listed = [{"signedTimestamp": text} for text in texts]
    made["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": listed}
