"""Keyless signatures: what counts for Python counts for the C++ loader, and the same words say what does not."""

from __future__ import annotations

import base64
import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cpp_library import Library, Refused
from cpp_policy import both
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtendedKeyUsageOID as Uses
from fuzz_damage import assemble, members_of
from hostile_signatures import damaged, line_of
from sigstore_double import AT, ISSUER, ME, WORKFLOW, Sigstore, der, text64
from sigstore_forged import CERTIFICATES, FORGED, OTHER, PAYLOAD, SIGSTORE, STAMPS, entry_of
from small_bundles import small_bundle
from trust_cases import DAY, NOW, device, issue, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.layout import SIGNATURE
from edgepack.trust.keys import PrivateKey
from edgepack.trust.policy import VARIABLE
from edgepack.trust.sign import sign
from edgepack.trust.statement import Signed, make

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("engines")]
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bare"), 2)


@pytest.fixture(scope="module")
def statement(bare: Path) -> bytes:
    """What a signer says of the bundle, as ``model_signing`` writes it."""
    said = json.loads(make(open_bundle(bare), Signed("2026-01-01T00:00:00Z")))
    for ours in ("edgepack", "provenance"):
        del said["predicate"][ours]
    return json.dumps(said).encode()


class Device:
    """A device that takes what ``ME`` or a workflow has signed, and what both loaders say of a bundle there."""

    def __init__(self, folder: Path, bare: Path, library: Library, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._members, self._library = folder, members_of(bare.read_bytes()), library
        patch.setenv(VARIABLE, str(folder / "policy.json"))
        self.trust(SIGSTORE.trusted_root())

    def trust(self, trusted_root: Any, **policy: Any) -> None:
        """Let the device have another trusted root, or another policy."""
        (self._folder / "trusted_root.json").write_text(
            trusted_root if isinstance(trusted_root, str) else json.dumps(trusted_root)
        )
        named = [{"identity": who, "issuer": ISSUER} for who in (ME, WORKFLOW, "alice")]
        device(self._folder, **{"sigstore": "trusted_root.json", "identities": named, **policy})

    def says(self, *documents: dict[str, Any] | bytes) -> tuple[Refused | None, Refused | None]:
        """Return what Python and C++ say of the bundle with these keyless signatures, each as it stands."""
        path = self._folder / "x.edgepack"
        lines = b"".join((each if isinstance(each, bytes) else line_of(each)) + b"\n" for each in documents)
        path.write_bytes(assemble({**self._members, SIGNATURE: lines}))
        return both(self._library, path)

    def takes(self, *documents: dict[str, Any] | bytes) -> bool:
        """Say whether it is taken; both loaders say so in the same words."""
        python, cpp = self.says(*documents)
        assert same(python, cpp), (python, cpp)
        return cpp is None

    def refusal(self, *documents: dict[str, Any] | bytes) -> str:
        python, cpp = self.says(*documents)
        assert same(python, cpp), (python, cpp)
        assert cpp is not None, "it is taken"
        return cpp.message


def same(python: Refused | None, cpp: Refused | None) -> bool:
    """Say whether both loaders say the same; Python's own words on base64 and DER at its end may be others."""
    if python is None or cpp is None or python == cpp:
        return python == cpp
    for words in ("it is not base64", "its timestamp cannot be read", "not valid JSON"):
        if words in python.message:
            cut = python.message.index(words) + len(words)
            return (python.kind, python.message[:cut]) == (cpp.kind, cpp.message[:cut])
    return False


@pytest.fixture
def there(bare: Path, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, bare, library, monkeypatch)


# --- what counts ------------------------------------------------------------------------------------------------------


def good(statement: bytes) -> Iterator[dict[str, Any]]:
    yield SIGSTORE.signed(statement)
    yield SIGSTORE.signed(statement, SIGSTORE.certificate(WORKFLOW))
    yield SIGSTORE.signed(statement, log=SIGSTORE.tiled)
    yield SIGSTORE.signed(statement, stamp={"status": b"\1"})
    for kind in (SHA256(), SHA384(), SHA512()):
        time = f"{AT + MINUTE:%Y%m%d%H%M%S}.25Z".encode()
        yield SIGSTORE.signed(statement, log=SIGSTORE.tiled, stamp={"hash": kind, "time": time})
    for n in (1, 8):
        only = {x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{n}"): None}
        yield SIGSTORE.signed(statement, SIGSTORE.certificate(texts=only))
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), der(12, b"alice"))
    yield SIGSTORE.signed(statement, SIGSTORE.certificate(names=[name]))


def test_what_counts(there: Device, statement: bytes, tmp_path: Path) -> None:
    for document in good(statement):
        assert there.takes(document)
    other = make(open_bundle(small_bundle(tmp_path / "other", 3)), Signed("2026-01-01T00:00:00Z"))
    assert "covers other files" in there.refusal(SIGSTORE.signed(other))


def test_a_threshold_counts_each_identity_once(there: Device, statement: bytes) -> None:
    there.trust(SIGSTORE.trusted_root(), threshold=2)
    mine, theirs = SIGSTORE.signed(statement), SIGSTORE.signed(statement, SIGSTORE.certificate(WORKFLOW))
    assert there.takes(mine, theirs)
    assert "by 1 of the signers that this device trusts (me@example.com), and 2" in there.refusal(
        mine, SIGSTORE.signed(statement)
    )
    assert "not in the form" in there.refusal(mine, mine)
    assert "at most 16 keyless signatures" in there.refusal(*(SIGSTORE.signed(statement) for _ in range(17)))
    assert "more than 16 keyless signatures" in there.refusal(*(SIGSTORE.signed(statement) for _ in range(18)))


def test_only_the_same_letters_are_an_identity(there: Device, statement: bytes) -> None:
    document = SIGSTORE.signed(statement)
    for identity, issuer in ((ME.upper(), ISSUER), (ME + " ", ISSUER), (ME, ISSUER + "/"), ("*", ISSUER), ("", ISSUER)):
        there.trust(SIGSTORE.trusted_root(), identities=[{"identity": identity, "issuer": issuer}])
        assert "is none of its identities" in there.refusal(document)


def test_keys_count_beside_identities(
    library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = [{"identity": ME, "issuer": ISSUER}]
    etc = tmp_path / "etc"
    policy = device(etc, keys[0], sigstore="trusted_root.json", identities=who, threshold=2)
    (etc / "trusted_root.json").write_text(json.dumps(SIGSTORE.trusted_root()))
    monkeypatch.setenv(VARIABLE, str(policy))
    path = signed_bundle(tmp_path / "1", keys[0])
    sign(path, (), attached=(SIGSTORE.sign_bundle(path, tmp_path / "x.json"),))
    python, cpp = both(library, path)
    assert cpp == python
    assert cpp is not None, "no key counts by the folder's usual name alone"
    device(etc, keys[0], sigstore="trusted_root.json", identities=who, threshold=2, keys="keys")
    assert both(library, path) == (None, None)


def test_the_time_is_the_log_s(there: Device, statement: bytes) -> None:
    document, age = SIGSTORE.signed(statement), (NOW - AT).days
    there.trust(SIGSTORE.trusted_root(), max_age_days=age + 1)
    assert there.takes(document)
    there.trust(SIGSTORE.trusted_root(), max_age_days=age - 1)
    assert f"more than {age - 1} days ago" in there.refusal(document)


def test_policies_of_keys_alone_pass_them_over(
    library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(device(tmp_path / "etc", keys[0])))
    with_key, without = signed_bundle(tmp_path / "1", keys[0]), small_bundle(tmp_path / "2")
    for path in (with_key, without):
        sign(path, (), attached=tuple(SIGSTORE.sign_bundle(path, tmp_path / f"{i}.json") for i in range(2)))
    assert both(library, with_key) == (None, None)
    python, cpp = both(library, without)
    assert cpp is not None
    assert cpp == python
    assert "by none of the keys" in cpp.message
    text = open_bundle(with_key).signature or b""
    lines = text.splitlines(keepends=True)
    for changed in (
        text.rstrip(b"\n"), text + b"\n", text + b"{}\n", text + b"x\n", text + lines[1], lines[1] + lines[0],
        text.replace(b'"certificate"', b'"Certificate"', 1), b"\n" + text, text + b"{}\n" * 20,
        lines[0] + lines[1].replace(b'"logIndex"', b' "logIndex"', 1),
        lines[0] + lines[1].replace(b'"keyid":""', b'"keyid":"me"'),
    ):  # fmt: skip
        made = tmp_path / "damaged.edgepack"
        made.write_bytes(assemble({**members_of(with_key.read_bytes()), SIGNATURE: changed}))
        python, cpp = both(library, made)
        assert cpp is not None
        assert python is not None
        assert (cpp.kind, cpp.message) == (python.kind, python.message), changed[-200:]  # hints of near names: Python's


@pytest.mark.parametrize(
    "changes",
    [
        {"identities": []}, {"sigstore": None}, {"root": "root.json"}, {"require_signature": False},
        {"identities": [{"identity": ME}]}, {"sigstore": "nowhere.json"},
    ],
    ids=str,
)  # fmt: skip
def test_policies_that_cannot_be_meant(there: Device, statement: bytes, changes: dict[str, Any]) -> None:
    there.trust(SIGSTORE.trusted_root(), **changes)
    assert there.refusal(SIGSTORE.signed(statement))


# --- what does not count ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", FORGED)
def test_a_forged_part(there: Device, part: str) -> None:
    document = SIGSTORE.signed(PAYLOAD)
    change, words = FORGED[part]
    change(document)
    assert words in there.refusal(document)


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_that_is_not_right(there: Device, case: str) -> None:
    other, words = CERTIFICATES[case]
    assert words in there.refusal(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(**other)))


@pytest.mark.parametrize("case", STAMPS)
def test_a_timestamp_that_is_not_right(there: Device, case: str) -> None:
    other, words = STAMPS[case]
    assert words in there.refusal(SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled, stamp=other))


def test_a_signature_counts_in_the_certificate_s_ten_minutes(there: Device, statement: bytes) -> None:
    holder = SIGSTORE.certificate()
    for log in (SIGSTORE.log, SIGSTORE.tiled):
        for minutes, counts in ((0, True), (10, True), (11, False), (-1, False), (60 * 24, False)):
            document = SIGSTORE.signed(statement, holder, logged=AT + minutes * MINUTE, log=log)
            assert there.takes(document) == counts, (minutes, log is SIGSTORE.tiled)
    late = SIGSTORE.signed(statement, stamp={"when": AT + 11 * MINUTE})
    assert "no trusted authority vouches" in there.refusal(late), "the certificate must hold at both times"


def test_an_entry_of_another_signature(there: Device, statement: bytes) -> None:
    for log in (SIGSTORE.log, SIGSTORE.tiled):
        holder = SIGSTORE.certificate()
        document, again = (SIGSTORE.signed(statement, holder, log=log) for _ in range(2))
        document["verificationMaterial"]["tlogEntries"] = [entry_of(again)]
        assert "of another signature" in there.refusal(document)
        body, kind = base64.b64decode(entry_of(again)["canonicalizedBody"]), entry_of(again)["kindVersion"]
        for place in range(0, len(body), 7):  # any change of the body, logged by the log itself
            changed = bytearray(body)
            changed[place] ^= 4
            entry = log.entry(bytes(changed), (kind["kind"], kind["version"]), AT + MINUTE)
            again["verificationMaterial"]["tlogEntries"] = [entry]
            python, cpp = there.says(again)
            assert same(python, cpp), place


# --- what the trusted root says ---------------------------------------------------------------------------------------

ENDED = f"{AT - DAY:%Y-%m-%dT%H:%M:%S.999Z}"


def period_of(root: dict[str, Any], name: str) -> Any:
    return (root[name][0]["publicKey"] if name in ("tlogs", "ctlogs") else root[name][0])["validFor"]


@pytest.mark.parametrize("name", ["tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"])
def test_what_ended_before_or_is_another_s(there: Device, statement: bytes, name: str) -> None:
    document = SIGSTORE.signed(statement, log=SIGSTORE.tiled if name == "timestampAuthorities" else SIGSTORE.log)
    changes: Callable[[dict[str, Any]], None]
    for changes in (
        lambda root: period_of(root, name).update(end=ENDED),
        lambda root: period_of(root, name).update(start=f"{NOW:%Y-%m-%dT%H:%M:%SZ}"),
        lambda root: root.update({name: OTHER.trusted_root()[name]}),
    ):
        root = copy.deepcopy(SIGSTORE.trusted_root())
        changes(root)
        there.trust(root)
        assert there.refusal(document)
    there.trust({**SIGSTORE.trusted_root(), "ctlogs": []})
    assert there.takes(document)


ROOTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another document": lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle.v0.3+json"),
    "no kind": lambda d: d.pop("mediaType"),
    "no log": lambda d: d.update(tlogs=[]),
    "no authority": lambda d: d.update(certificateAuthorities=[]),
    "an authority without a certificate": lambda d: d["certificateAuthorities"][0]["certChain"].update(certificates=[]),
    "another hash": lambda d: d["tlogs"][0].update(hashAlgorithm="SHA2_512"),
    "no start": lambda d: d["tlogs"][0]["publicKey"]["validFor"].pop("start"),
    "an end that is no time": lambda d: d["tlogs"][0]["publicKey"]["validFor"].update(end="tomorrow"),
}


@pytest.mark.parametrize("case", ROOTS)
def test_what_is_no_root(there: Device, statement: bytes, case: str) -> None:
    root = SIGSTORE.trusted_root()
    ROOTS[case](root)
    there.trust(root)
    assert "is not a trusted root" in there.refusal(SIGSTORE.signed(statement))


@pytest.mark.parametrize("fraction", ["", ".5", ".999999999"])
def test_parts_of_a_second_in_a_root(there: Device, statement: bytes, fraction: str) -> None:
    root = SIGSTORE.trusted_root()
    period_of(root, "tlogs").update(end=f"{AT + MINUTE:%Y-%m-%dT%H:%M:%S}{fraction}Z")
    there.trust(root)
    assert there.takes(SIGSTORE.signed(statement))
    period_of(root, "tlogs").update(end=f"{AT + MINUTE - timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}{fraction}Z")
    there.trust(root)
    assert "did not count at the time" in there.refusal(SIGSTORE.signed(statement))


def test_a_root_that_is_not_to_be_believed(there: Device, statement: bytes, tmp_path: Path) -> None:
    document = SIGSTORE.signed(statement)
    for text in ("", "[]", "null", "7", "{}", "{"):
        there.trust(text)
        python, cpp = there.says(document)
        assert python is not None
        assert cpp is not None
        assert cpp.kind == python.kind == "ConfigError"
    there.trust(SIGSTORE.trusted_root())
    (tmp_path / "trusted_root.json").chmod(0o666)
    assert "writable by other users" in there.refusal(document)


def test_authorities_of_one_certificate(there: Device, statement: bytes) -> None:
    root = SIGSTORE.trusted_root()
    chain = root["certificateAuthorities"][0]["certChain"]
    chain["certificates"] = chain["certificates"][1:]
    days = (AT - NOW).days
    for begin, end, counts in ((-1, 1, True), (1, 2, False), (-2, -1, False)):
        alone = issue("alone", key=SIGSTORE.stamping.key, days=(days + begin, days + end), uses=[Uses.TIME_STAMPING])
        root["timestampAuthorities"][0]["certChain"]["certificates"] = [{"rawBytes": text64(alone.der())}]
        there.trust(root)
        document = SIGSTORE.signed(statement, SIGSTORE.certificate(by=SIGSTORE.root), log=SIGSTORE.tiled)
        assert there.takes(document) == counts


def test_authorities_that_are_not_for_it(there: Device, statement: bytes) -> None:
    document = SIGSTORE.signed(statement, log=SIGSTORE.tiled)
    plain = issue("stamping", SIGSTORE.root, key=SIGSTORE.stamping.key, days=(-900, 900))
    both_uses = [Uses.TIME_STAMPING, Uses.CODE_SIGNING]
    wide = issue("stamping", SIGSTORE.root, key=SIGSTORE.stamping.key, days=(-900, 900), uses=both_uses)
    for place, holder in ((0, plain), (0, wide), (1, OTHER.root)):
        root = copy.deepcopy(SIGSTORE.trusted_root())
        root["timestampAuthorities"][0]["certChain"]["certificates"][place]["rawBytes"] = text64(holder.der())
        there.trust(root)
        assert "nor a trusted" in there.refusal(document)
    root = SIGSTORE.trusted_root()
    root["ctlogs"][0]["publicKey"]["rawBytes"] = text64(der(0x30, b"x"))
    there.trust(root)
    assert "log of certificates" in there.refusal(document), "a key of an unknown kind vouches for nothing"


# --- damage -----------------------------------------------------------------------------------------------------------


def test_damage_is_refused_by_both(there: Device, statement: bytes) -> None:
    """Verdict and kind are the same; the words too, but for what a certificate is called that cannot be read."""
    documents, found = list(good(statement))[:3], Counter[str]()
    for seed in range(900):
        python, cpp = there.says(damaged(documents[seed % 2 * 2], seed))
        assert (python is None) == (cpp is None), (seed, python, cpp)
        if python is not None and cpp is not None:
            assert python.kind == cpp.kind, (seed, python, cpp)
        found["taken" if cpp is None else "same words" if same(python, cpp) else "other words"] += 1
    print(dict(found))
    assert found["other words"] < 90


def test_another_instance_is_trusted_for_nothing(there: Device, statement: bytes) -> None:
    assert "none that is trusted" in there.refusal(Sigstore().signed(statement))
