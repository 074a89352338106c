"""Policies that name identities: who counts, how often, and what a refusal says."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from program import main
from sigstore_double import AT, ISSUER, ME, WORKFLOW, Sigstore
from small_bundles import small_bundle
from trust_cases import NOW, issue, new_key, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, TrustError
from edgepack.trust.member import from_bytes
from edgepack.trust.policy import admit, describe_policies, policies
from edgepack.trust.sign import sign

SIGSTORE = Sigstore()
YOU = "you@example.com"


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that writes the policy of a device that has the double's trusted root."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "trusted_root.json").write_text(json.dumps(SIGSTORE.trusted_root()))
    path = folder / "policy.json"
    monkeypatch.setenv("EDGEPACK_POLICY", str(path))

    def write(*identities: str, issuer: str = ISSUER, **other: Any) -> Path:
        named = [{"identity": identity, "issuer": issuer} for identity in identities]
        said = {"format": 1, "require_signature": True, "sigstore": "trusted_root.json", "identities": named}
        path.write_text(json.dumps({**said, **other}))
        return path

    return write


def attached(folder: Path, *identities: str, key: Any = None, **other: Any) -> Path:
    """Return a bundle that each identity has signed, and a key where one is given."""
    path = signed_bundle(folder, key) if key is not None else small_bundle(folder, 2)
    for i, identity in enumerate(identities):
        holder = SIGSTORE.certificate(identity)
        made = SIGSTORE.sign_bundle(path, folder / f"{i}.sigstore.json", holder, **other)
        sign(path, (), attached=(made,))
    return path


def test_a_bundle_is_taken_that_an_identity_has_signed(rules: Any, tmp_path: Path) -> None:
    rules(ME, WORKFLOW)
    for identity in (ME, WORKFLOW):
        admission = admit(open_bundle(attached(tmp_path / identity[:2], identity)))
        assert admission.signers == (f"{identity} ({ISSUER})",)
        assert admission.signed is not None
        assert admission.signed.signed_at == f"{AT + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    _, *lines = describe_policies(policies())
    who = f"{ME} ({ISSUER}), {WORKFLOW} ({ISSUER})"
    assert lines == ["  signed by 1 of these:", f"    without a key, by Sigstore (trusted_root.json): {who}"]


def test_only_the_same_letters_of_both_are_an_identity(rules: Any, tmp_path: Path) -> None:
    bundle = open_bundle(attached(tmp_path, ME))
    rules(ME)
    assert admit(bundle).signers
    for identity, issuer in ((ME.upper(), ISSUER), (ME + " ", ISSUER), (ME, ISSUER + "/"), ("*", ISSUER), ("", ISSUER)):
        rules(identity, issuer=issuer)
        with pytest.raises(TrustError, match="none of its identities") as refused:
            admit(bundle)
        assert f"of its keyless signatures: {ME} ({ISSUER}) is none" in refused.value.message


def test_a_refusal_says_why_a_signature_does_not_count(rules: Any, tmp_path: Path) -> None:
    rules(ME)
    stranger = Sigstore()
    path = small_bundle(tmp_path, 2)
    sign(path, (), attached=(stranger.sign_bundle(path, tmp_path / "x.json"),))
    with pytest.raises(TrustError, match=r"by none of the signers .* its log [0-9a-f]{16} is none that is trusted"):
        admit(open_bundle(path))
    with pytest.raises(TrustError, match="by none of the signers"):
        admit(open_bundle(signed_bundle(tmp_path / "key", new_key(tmp_path, "one"))))
    with pytest.raises(TrustError, match="is not signed"):
        admit(open_bundle(small_bundle(tmp_path / "bare", 2)))


def test_a_threshold_counts_each_identity_once(rules: Any, tmp_path: Path) -> None:
    rules(ME, YOU, threshold=2)
    with pytest.raises(TrustError, match=r"by 1 of the signers that this device trusts \(me@example.com\), and 2"):
        admit(open_bundle(attached(tmp_path / "one", ME, ME)))
    assert len(admit(open_bundle(attached(tmp_path / "two", ME, YOU))).signers) == 2


def test_keys_and_authorities_count_beside_identities_where_they_are_named(rules: Any, tmp_path: Path) -> None:
    key = new_key(tmp_path, "one")
    folder = rules(ME, threshold=2).parent
    bundle = open_bundle(attached(tmp_path / "one", ME, key=key))
    (folder / "keys").mkdir()
    (folder / "keys" / "one.pub.pem").write_text(key.public.pem)
    with pytest.raises(TrustError, match="by 1 of the signers"):
        admit(bundle)  # no key counts by the folder's usual name alone
    rules(ME, threshold=2, keys="keys")
    assert [name.split()[0] for name in admit(bundle).signers] == ["one", ME]
    assert f"    1 keys (keys): one {key.public.id[:16]}" in describe_policies(policies())

    authority = issue("models", ca=True)
    signer = issue("alice", authority)
    path = attached(tmp_path / "two", ME)
    sign(path, (signer.private(tmp_path),), certificates=(signer.der(),))
    (folder / "authorities").mkdir()
    (folder / "authorities" / "models.pem").write_bytes(authority.pem())
    rules(ME, threshold=2, authorities="authorities")
    assert [name.split()[0] for name in admit(open_bundle(path)).signers] == ["alice", ME]


def test_a_policy_of_keys_alone_takes_no_identity(rules: Any, tmp_path: Path) -> None:
    key = new_key(tmp_path, "one")
    path = rules()
    (path.parent / "keys").mkdir()
    (path.parent / "keys" / "one.pub.pem").write_text(key.public.pem)
    path.write_text(json.dumps({"format": 1, "require_signature": True}))
    with pytest.raises(TrustError, match="by none of the keys"):
        admit(open_bundle(attached(tmp_path / "one", ME)))
    assert len(admit(open_bundle(attached(tmp_path / "two", ME, key=key))).signers) == 1


def test_the_time_is_the_log_s(rules: Any, tmp_path: Path) -> None:
    bundle = open_bundle(attached(tmp_path, ME))
    age = (NOW - AT).days
    rules(ME, max_age_days=age + 1)
    assert admit(bundle).signers
    rules(ME, max_age_days=age - 1)
    with pytest.raises(TrustError, match=f"more than {age - 1} days ago"):
        admit(bundle)
    assert admit(bundle, new=False).signers
    rules(ME, max_age_days=1)
    with pytest.raises(TrustError, match="clock says"):
        admit(bundle, now=AT - timedelta(days=30))


def test_the_page_of_refusals_has_what_a_policy_says(rules: Any, tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "keyless-refusals.md"
    said = [line.split("`")[1] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("- `")]
    bundle, bare = open_bundle(attached(tmp_path / "one", ME)), open_bundle(small_bundle(tmp_path / "bare", 2))
    late = AT - timedelta(days=30)
    cases = [
        (bare, {}, None), (bundle, {"of": [YOU]}, None), (bundle, {"threshold": 2}, None),
        (bundle, {"max_age_days": 1}, None), (bundle, {"max_age_days": 1}, late),
    ]  # fmt: skip
    for words, (given, asked, now) in zip(said, cases, strict=True):
        rules(*asked.pop("of", [ME]), **asked)
        with pytest.raises(TrustError) as refused:
            admit(given, now=now)
        assert all(part in refused.value.message for part in words.split(" ... ")), (words, refused.value.message)


def test_a_statement_over_other_files_is_refused(rules: Any, tmp_path: Path) -> None:
    rules(ME)
    other = SIGSTORE.sign_bundle(small_bundle(tmp_path / "other", 3), tmp_path / "other.json")
    path = small_bundle(tmp_path, 2)
    with pytest.raises(TrustError, match="covers other files"):
        sign(path, (), attached=(other,))
    assert open_bundle(path).signature is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"identities": []}, "need each other"),
        ({"sigstore": None}, "need each other"),
        ({"root": "root.json"}, "root and sigstore cannot be used"),
        ({"require_signature": False}, "sigstore needs require_signature"),
        ({"identities": [{"identity": ME}]}, "'issuer' is missing"),
        ({"identities": [ME]}, "identities"),
        ({"sigstore": "nowhere.json"}, "trusted root .* cannot be read"),
    ],
)
def test_policies_that_cannot_be_meant(rules: Any, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    bundle = open_bundle(attached(tmp_path, ME))
    rules(ME, **changes)
    with pytest.raises(ConfigError, match=words):
        admit(bundle)


def test_the_commands(rules: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rules(ME)
    path = small_bundle(tmp_path, 2)
    made = SIGSTORE.sign_bundle(path, tmp_path / "small.sigstore.json")
    assert main(["sign", str(path), "--attach", str(made)]) == 0
    assert "signed by 1 without a key" in capfd.readouterr().out
    assert main(["policy", str(path)]) == 0
    assert f"signed by {ME} ({ISSUER}) at " in capfd.readouterr().out.replace("\n", "")
    assert main(["sign", str(path)]) == 2
    assert "no key to sign with" in capfd.readouterr().err
    assert main(["sign", str(path), "--attach", str(made), "--expires", "9d"]) == 2
    assert "no new statement is signed" in capfd.readouterr().err


def test_keys_and_identities_sign_one_statement(rules: Any, tmp_path: Path) -> None:
    """By what Sigstore would answer, in the place of the package that asks it."""
    key = new_key(tmp_path, "one")
    path = small_bundle(tmp_path, 2)

    def answer(statement: bytes) -> bytes:
        return json.dumps(SIGSTORE.signed(statement)).encode()

    made = sign(path, (key,), sigstore=answer, expires=NOW + timedelta(days=9))
    found = from_bytes(open_bundle(path).signature or b"", "x")
    assert found.envelope is not None
    assert [each.payload for each in found.keyless] == [found.envelope.payload]
    assert made.keyless == 1
    rules(ME)
    admission = admit(open_bundle(path))
    assert admission.signed is not None
    assert admission.signed.expires == made.signed.expires
    with pytest.raises(TrustError, match="out of date since"):
        admit(open_bundle(path), now=NOW + timedelta(days=10))
    assert sign(path, (), sigstore=answer).keyless == 2, "one more, over the statement that is there"
    assert sign(path, (), sigstore=answer, replace=True).keyids == ()
    assert from_bytes(open_bundle(path).signature or b"", "x").envelope is None
    with pytest.raises(TrustError, match="cannot be read"):
        sign(path, (), sigstore=lambda _: json.dumps(SIGSTORE.signed(b"{}")).encode())
