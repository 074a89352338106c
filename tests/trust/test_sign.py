"""Signing: what is in the file, what stays as it was, and how other people's tools see it."""

from __future__ import annotations

import base64
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fuzz_damage import assemble, members_of
from small_bundles import small_bundle
from trust_cases import new_key, signed_bundle

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle, read_member
from edgepack.bundle.layout import MANIFEST, SIGNATURE
from edgepack.errors import ConfigError, TrustError
from edgepack.runtime.verify import verify
from edgepack.specs.build import BuildResult, BuildRow
from edgepack.trust.envelope import from_bytes, pre_authentication, signers, to_bytes
from edgepack.trust.sign import sign, who_signed
from edgepack.trust.statement import check, file_digests


def statement(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        bundle = json.loads(archive.read(SIGNATURE))
    return json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))


def test_every_file_is_signed_and_none_is_changed(tmp_path: Path) -> None:
    key = new_key(tmp_path, "release")
    plain = open_bundle(small_bundle(tmp_path))
    made = sign(plain.path, (key,), tmp_path / "signed.edgepack")
    checked = open_bundle(tmp_path / "signed.edgepack")
    assert (checked.manifest_sha256, checked.sha256) == (plain.manifest_sha256, made.sha256)
    assert made.keyids == (key.public.id,)
    names = {each["name"]: each["digest"] for each in statement(checked.path)["predicate"]["resources"]}
    assert names == {MANIFEST: checked.manifest_sha256, **{e.path: e.sha256 for e in checked.manifest.files}}
    assert names == file_digests(checked)
    by, says = who_signed(checked, [key.public, new_key(tmp_path, "other").public])
    assert by == (key.public,)
    assert says == made.signed
    assert who_signed(plain, [key.public]) == ((), None)


def test_the_signature_is_of_dsse(tmp_path: Path) -> None:
    """PAE of the protocol's own example, and a signature that any ECDSA verifier takes."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    key = new_key(tmp_path, "release")
    envelope = json.loads(members_of(signed_bundle(tmp_path, key).read_bytes())[SIGNATURE])["dsseEnvelope"]
    payload, (signature,) = base64.b64decode(envelope["payload"]), envelope["signatures"]
    public = serialization.load_pem_public_key(key.public.pem.encode())
    message = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    public.verify(base64.b64decode(signature["sig"]), message, ec.ECDSA(hashes.SHA256()))


def test_the_same_bundle_key_and_time_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    key = new_key(tmp_path, "release")
    first, second = signed_bundle(tmp_path / "a", key), signed_bundle(tmp_path / "b", key)
    assert first.read_bytes() == second.read_bytes()
    assert statement(first)["predicate"]["edgepack"]["signed_at"] == "2027-01-15T08:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH is 'soon'"):
        sign(first, (key,), replace=True)


def test_a_second_signer_signs_the_same_statement(tmp_path: Path) -> None:
    one, two = new_key(tmp_path, "one"), new_key(tmp_path, "two")
    path = signed_bundle(tmp_path, one)
    before = statement(path)
    made = sign(path, (two,))
    assert made.keyids == (one.public.id, two.public.id)
    assert statement(path) == before
    assert who_signed(open_bundle(path), [one.public, two.public])[0] == (one.public, two.public)
    assert sign(path, (one,)).keyids == (two.public.id, one.public.id), "once each"
    assert sign(path, (two,), replace=True).keyids == (two.public.id,)


def test_a_statement_that_is_signed_is_not_changed(tmp_path: Path) -> None:
    key = new_key(tmp_path, "one")
    path = signed_bundle(tmp_path, key)
    with pytest.raises(ConfigError, match="its statement stays as it is"):
        sign(path, (key,), expires=datetime.now(UTC) + timedelta(days=1))


def test_a_signature_over_other_files_is_not_added_to(tmp_path: Path) -> None:
    key = new_key(tmp_path, "one")
    one, other = signed_bundle(tmp_path / "1", key), signed_bundle(tmp_path / "2", key, channels=3)
    members = members_of(one.read_bytes())
    path = tmp_path / "spliced.edgepack"
    path.write_bytes(assemble({**members, SIGNATURE: members_of(other.read_bytes())[SIGNATURE]}))
    with pytest.raises(TrustError, match=r"covers other files: 'golden.npz' is another"):
        sign(path, (key,))
    assert sign(path, (key,), replace=True).keyids == (key.public.id,)


def test_the_golden_vectors_and_the_verification_are_signed(tmp_path: Path) -> None:
    path = small_bundle(tmp_path)
    found = verify(path)
    (tmp_path / "verified.json").write_text(documents.to_json(found))
    sign(path, (new_key(tmp_path, "one"),), verification=tmp_path / "verified.json")
    says = statement(path)["predicate"]["edgepack"]
    golden = next(entry for entry in open_bundle(path).manifest.files if entry.path == "golden.npz")
    assert says["golden_sha256"] == golden.sha256
    assert says["verification"]["outputs"][0]["name"] == "scores"
    for changes, words in (({"passed": False}, "out of tolerance"), ({"outputs": ()}, "of another model")):
        (tmp_path / "verified.json").write_text(documents.to_json({**documents.encode(found), **changes}))
        with pytest.raises(ConfigError, match=words):
            sign(path, (new_key(tmp_path, words[:2]),), verification=tmp_path / "verified.json", replace=True)


def test_the_provenance_says_what_went_in(tmp_path: Path) -> None:
    path = small_bundle(tmp_path, calibration_sha256="cd" * 32)
    row = BuildRow("test-board", "fp32", "ok", sha256=open_bundle(path).sha256, command=("edgepack", "build", "m.onnx"))
    build = BuildResult("small", (row,), (), "out", None, {}, 1, 0)
    (tmp_path / "build.json").write_text(documents.to_json(build))
    sign(path, (new_key(tmp_path, "one"),), build=tmp_path / "build.json")
    provenance = statement(path)["predicate"]["provenance"]
    assert provenance["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = provenance["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["command"] == ["edgepack", "build", "m.onnx"]
    digests = [each["digest"]["sha256"] for each in definition["resolvedDependencies"] if "digest" in each]
    assert digests == ["ab" * 32, "cd" * 32]
    with pytest.raises(ConfigError, match="no row of"):
        sign(path, (new_key(tmp_path, "two"),), build=tmp_path / "build.json", replace=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b'{"mediaType"', b'{ "mediaType"'),
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b'"tlogEntries":[]', b'"tlogEntries":["x"]'),
        lambda text: text.replace(b"v0.3", b"v0.2"),
        lambda text: text.replace(b"in-toto+json", b"in-toto+xml "),
        lambda text: text[: len(text) // 2],
        lambda text: b"{}",
        lambda text: b"\xff",
        lambda text: text.replace(b'"payload":"', b'"payload":"!'),
        lambda text: json.dumps({**json.loads(text), "more": 1}).encode(),
        lambda text: text.replace(b'"sig":"', b'"sig":"../'),
        lambda text: text.replace(b'"sig":"', b'"sig":"\\n'),
    ],
)
def test_a_signature_has_one_form(tmp_path: Path, damage: Any) -> None:
    text = members_of(signed_bundle(tmp_path, new_key(tmp_path, "one")).read_bytes())[SIGNATURE]
    assert to_bytes(from_bytes(text, "x")) == text
    with pytest.raises(TrustError):
        from_bytes(damage(text), "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(predicate=[]),
        lambda s: s["predicate"].update(serialization="files"),
        lambda s: s["predicate"].update(serialization={"method": "shards"}),
        lambda s: s["predicate"].update(resources={}),
        lambda s: s["predicate"]["resources"][0].update(name=None),
        lambda s: s["predicate"]["resources"][0].update(digest="xy"),
        lambda s: s["predicate"]["resources"][0].update(digest=5),
        lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
        lambda s: s["predicate"]["resources"].pop(),
        lambda s: s["predicate"].update(edgepack=[]),
        lambda s: s["predicate"]["edgepack"].update(golden_sha256="0" * 64),
        lambda s: s.update(subject=[]),
        lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda s: s.update(_type="x"),
    ],
)
def test_a_statement_that_is_signed_and_says_something_else_is_refused(tmp_path: Path, change: Any) -> None:
    """By a trusted key that was used for other things too."""
    bundle = open_bundle(signed_bundle(tmp_path, new_key(tmp_path, "one")))
    said = statement(bundle.path)
    check(json.dumps(said).encode(), bundle)
    change(said)
    with pytest.raises(TrustError):
        check(json.dumps(said).encode(), bundle)


def test_a_changed_payload_is_signed_by_nobody(tmp_path: Path) -> None:
    key = new_key(tmp_path, "one")
    envelope = from_bytes(members_of(signed_bundle(tmp_path, key).read_bytes())[SIGNATURE], "x")
    import dataclasses

    changed = dataclasses.replace(envelope, payload=envelope.payload.replace(b'"small"', b'"Small"'))
    assert changed.payload != envelope.payload
    assert signers(envelope, [key.public]) == (key.public,)
    assert signers(changed, [key.public]) == ()


def test_a_signature_survives_what_reads_a_bundle(tmp_path: Path) -> None:
    path = signed_bundle(tmp_path, new_key(tmp_path, "one"))
    assert verify(path).passed
    assert read_member(open_bundle(path), "golden.npz")


def test_the_signature_is_not_before_its_date(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out of date at once"):
        sign(small_bundle(tmp_path), (new_key(tmp_path, "one"),), expires=datetime(2020, 1, 1, tzinfo=UTC))
