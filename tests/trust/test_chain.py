"""Signatures by certificates of an own authority: what counts, and what a stranger may put into a bundle."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from program import main
from small_bundles import small_bundle
from trust_cases import DAY, NOW, Holder, issue, new_key

from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, TrustError
from edgepack.trust.chain import certified_keys, read_authorities, read_chain
from edgepack.trust.envelope import from_bytes, to_bytes
from edgepack.trust.policy import admit, describe_policies, policies
from edgepack.trust.sign import sign

ROOT = issue("root", ca=True, days=(-10, 300))
MIDDLE = issue("middle", ROOT, ca=True, length=0, days=(-5, 100))
SIGNER = issue("alice", MIDDLE)
OTHER_ROOT = issue("root", ca=True)


def names(certificates: list[Holder], now: datetime | None = NOW, root: Holder = ROOT, **more: Any) -> list[str]:
    found = certified_keys([each.der() for each in certificates], [root.certificate], now, **more)
    return [key.name for key in found]


def test_a_chain_to_the_authority_counts() -> None:
    assert names([SIGNER, MIDDLE]) == ["alice"]
    assert names([MIDDLE, SIGNER]) == ["alice"], "in any order"
    assert names([SIGNER, MIDDLE], names=["alice"]) == ["alice"]
    direct = issue("bob", ROOT)
    assert names([SIGNER, MIDDLE, direct]) == ["alice", "bob"]


LONG = issue("deeper", MIDDLE, ca=True)  # the middle one may have no authority below it
REFUSED = {
    "another root of the same name": ([SIGNER, MIDDLE], NOW, OTHER_ROOT),
    "a link is missing": ([SIGNER], NOW, ROOT),
    "its own issuer": ([issue("alice")], NOW, ROOT),
    "the authority itself": ([ROOT], NOW, ROOT),
    "one between": ([MIDDLE], NOW, ROOT),
    "over": ([SIGNER, MIDDLE], NOW + 31 * DAY, ROOT),
    "not yet": ([SIGNER, MIDDLE], NOW - 2 * DAY, ROOT),
    "the one between is over": ([issue("a", MIDDLE, days=(-1, 300)), MIDDLE], NOW + 101 * DAY, ROOT),
    "too deep": ([issue("a", LONG), LONG, MIDDLE], NOW, ROOT),
    "not for signatures": ([issue("a", MIDDLE, signs=False), MIDDLE], NOW, ROOT),
    "another curve": ([issue("a", MIDDLE, curve=ec.SECP384R1()), MIDDLE], NOW, ROOT),
    "an authority that may not issue": (
        [issue("a", halt := issue("halt", ROOT, ca=True, issues=False)), halt], NOW, ROOT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_anything_else_counts_for_nothing(case: str) -> None:
    certificates, now, root = REFUSED[case]
    assert names(certificates, now, root) == []


def test_a_signer_cannot_issue() -> None:
    assert names([issue("a", SIGNER), SIGNER, MIDDLE]) == ["alice"]


def test_a_key_that_is_certified_twice_is_one(device: Path, tmp_path: Path) -> None:
    """Who had a certificate renewed signed for two, where two must have signed."""
    again = issue("alice2", MIDDLE, key=SIGNER.key)
    assert names([SIGNER, again, MIDDLE]) == ["alice"]
    policy = json.loads(device.read_text())
    device.write_text(json.dumps({**policy, "threshold": 2}))
    with pytest.raises(TrustError, match="by 1 of the keys"):
        admit(open_bundle(certified(tmp_path / "one", SIGNER, chain=(again, MIDDLE))))
    bob = issue("bob", MIDDLE)
    assert len(admit(open_bundle(certified(tmp_path / "two", SIGNER, bob))).signers) == 2


def test_names_and_bytes_that_are_none() -> None:
    assert names([SIGNER, MIDDLE], names=["bob"]) == []
    assert certified_keys([b"", b"\x30\x80", b"x" * 5000, SIGNER.der()[:-5]], [ROOT.certificate], NOW) == ()
    changed = bytearray(SIGNER.der())
    changed[-3] ^= 1
    assert certified_keys([bytes(changed), MIDDLE.der()], [ROOT.certificate], NOW) == ()


def test_a_name_of_a_kind_that_nobody_reads_counts_for_nothing() -> None:
    """An address of X.400 in the place of a name, for which the package that builds paths has an error of its own."""
    x400 = bytes.fromhex("3004a3023000")
    assert names([issue("alice", MIDDLE, names=x400), MIDDLE]) == []
    assert names([issue("alice", MIDDLE, names=x400), MIDDLE, issue("bob", ROOT)]) == ["bob"]


def test_what_is_installed_counts_from_when_it_began() -> None:
    assert names([SIGNER, MIDDLE], None) == ["alice"]
    over = issue("old", MIDDLE, days=(-4, -2))
    assert names([over, MIDDLE], None) == ["old"]
    assert names([over, MIDDLE]) == []


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy that takes what the authority's signers have signed."""
    (tmp_path / "authorities").mkdir()
    (tmp_path / "authorities" / "root.pem").write_bytes(ROOT.pem())
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"format": 1, "require_signature": True, "authorities": "authorities"}))
    monkeypatch.setenv("EDGEPACK_POLICY", str(path))
    return path


def certified(folder: Path, *holders: Holder, chain: tuple[Holder, ...] = (MIDDLE,)) -> Path:
    path = small_bundle(folder, 2)
    keys = tuple(holder.private(folder) for holder in holders)
    sign(path, keys, certificates=tuple(each.der() for each in (*holders, *chain)))
    return path


def test_a_bundle_is_taken_by_the_authority_s_word(device: Path, tmp_path: Path) -> None:
    admission = admit(open_bundle(certified(tmp_path / "one", SIGNER)))
    assert [name.split()[0] for name in admission.signers] == ["alice"]
    assert "  signed by 1 with certificates of CN=root" in describe_policies(policies())
    with pytest.raises(TrustError, match="by none of the keys"):
        admit(open_bundle(certified(tmp_path / "two", issue("eve", OTHER_ROOT), chain=())))
    with pytest.raises(TrustError, match="by none of the keys"):
        admit(open_bundle(certified(tmp_path / "three", SIGNER, chain=())))


def test_a_certificate_without_its_signature_is_nothing(device: Path, tmp_path: Path) -> None:
    """A bundle that another key signed, with the certificates of somebody who is trusted beside it."""
    path = small_bundle(tmp_path, 2)
    eve = issue("eve", OTHER_ROOT)
    sign(path, (eve.private(tmp_path),), certificates=(eve.der(), SIGNER.der(), MIDDLE.der()))
    with pytest.raises(TrustError, match="by none of the keys"):
        admit(open_bundle(path))


def test_a_certificate_that_is_over_takes_nothing_new_in(device: Path, tmp_path: Path) -> None:
    path = certified(tmp_path / "one", SIGNER)
    later = NOW + 40 * DAY
    with pytest.raises(TrustError):
        admit(open_bundle(path), now=later)
    assert admit(open_bundle(path), now=later, new=False).signers


def test_names_and_a_threshold(device: Path, tmp_path: Path) -> None:
    both = certified(tmp_path / "one", SIGNER, issue("bob", ROOT))
    rules = {"format": 1, "require_signature": True, "authorities": "authorities"}
    device.write_text(json.dumps({**rules, "threshold": 2}))
    assert len(admit(open_bundle(both)).signers) == 2
    device.write_text(json.dumps({**rules, "threshold": 2, "signers": ["alice", "carol"]}))
    with pytest.raises(TrustError, match="by 1 of the keys"):
        admit(open_bundle(both))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": "root.json"}, "cannot be used together"),
        ({"authorities": None, "signers": ["alice"]}, "signers needs authorities"),
        ({"require_signature": False}, "needs require_signature"),
        ({"authorities": "nowhere"}, "cannot be read"),
    ],
)
def test_policies_that_cannot_be_meant(device: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    device.write_text(json.dumps({"format": 1, "require_signature": True, "authorities": "authorities", **changes}))
    with pytest.raises(ConfigError, match=words):
        admit(open_bundle(small_bundle(tmp_path / "bundle", 2))) if "nowhere" not in str(changes) else read_authorities(
            tmp_path / "nowhere"
        )


def test_the_member_has_one_form(tmp_path: Path) -> None:
    bundle = open_bundle(certified(tmp_path, SIGNER))
    assert bundle.signature is not None
    envelope = from_bytes(bundle.signature, "x")
    assert envelope.certificates == (SIGNER.der(), MIDDLE.der())
    assert to_bytes(envelope) == bundle.signature
    with pytest.raises(TrustError):
        from_bytes(bundle.signature.replace(b'{"x509CertificateChain"', b'{ "x509CertificateChain"'), "x")
    twice = dataclasses.replace(envelope, certificates=(SIGNER.der(), SIGNER.der()))
    with pytest.raises(ConfigError, match="each once"):
        to_bytes(twice)


def test_signing_with_the_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    path = small_bundle(tmp_path, 2)
    with pytest.raises(ConfigError, match="not those of the keys"):
        sign(path, (new_key(tmp_path, "other"),), certificates=(SIGNER.der(),))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_command_with_an_authority_that_openssl_made(tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    """The commands of docs/trust.md."""
    words = """
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=models \
        -addext keyUsage=critical,keyCertSign -keyout ca.key.pem -out ca.pem
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=release \\
        -keyout release.key.pem -out release.csr
    printf 'basicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature\\n' > release.ext
    openssl x509 -req -in release.csr -CA ca.pem -CAkey ca.key.pem -CAcreateserial -days 90 \\
        -extfile release.ext -out release.pem
    openssl verify -CAfile ca.pem release.pem
    """
    subprocess.run(["sh", "-euc", words], cwd=tmp_path, check=True, capture_output=True)
    assert len(read_chain(tmp_path / "release.pem")) == 1
    (tmp_path / "authorities").mkdir()
    shutil.copy(tmp_path / "ca.pem", tmp_path / "authorities")
    (tmp_path / "policy.json").write_text('{"format": 1, "require_signature": true, "authorities": "authorities"}')
    bundle = small_bundle(tmp_path / "bundle", 2)
    key, chain = str(tmp_path / "release.key.pem"), str(tmp_path / "release.pem")
    assert main(["sign", str(bundle), "--key", key, "--certificate", chain]) == 0
    monkeypatch.setenv("EDGEPACK_POLICY", str(tmp_path / "policy.json"))
    capfd.readouterr()
    assert main(["policy", str(bundle)]) == 0
    assert "signed by release" in capfd.readouterr().out
