"""Keyless signatures: what counts, and each part of one forged."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID as Uses
from sigstore_double import AT, ISSUER, ME, WORKFLOW, Log, Sigstore, der, text64
from trust_cases import DAY, issue

from edgepack.errors import ConfigError
from edgepack.trust.keyless.bundle import from_file
from edgepack.trust.keyless.certificate import Identity
from edgepack.trust.keyless.check import check_keyless
from edgepack.trust.keyless.timestamp import stamped_at
from edgepack.trust.keyless.trusted_root import parse_trusted_root

PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
MINUTE = timedelta(minutes=1)
SIGSTORE = Sigstore()
OTHER = Sigstore()
NEW_KEY = ec.generate_private_key(ec.SECP256R1())


def check(document: dict[str, Any], **root: Any) -> Any:
    trusted = parse_trusted_root(json.dumps(SIGSTORE.trusted_root(**root)).encode(), "root")
    return check_keyless(from_file(json.dumps(document).encode(), "signature"), trusted)


def refusal(document: dict[str, Any], **root: Any) -> str:
    try:
        check(document, **root)
    except (ValueError, ConfigError) as error:
        return str(error)
    pytest.fail("it counts")


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    return SIGSTORE.signed(PAYLOAD)


@pytest.mark.parametrize("identity", [ME, WORKFLOW])
def test_an_identity_that_was_logged_counts(identity: str) -> None:
    found = check(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(identity)))
    assert found.identity == Identity(identity, ISSUER)
    assert found.at == AT + MINUTE


def test_a_log_without_times_counts_with_a_timestamp() -> None:
    document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)
    assert check(document).at == AT + MINUTE
    del document["verificationMaterial"]["timestampVerificationData"]
    assert "nor a trusted timestamp authority" in refusal(document)


def test_a_timestamp_beside_the_log_s_time_is_looked_at_as_well() -> None:
    assert check(SIGSTORE.signed(PAYLOAD, stamp={"status": b"\1"})).at == AT + MINUTE
    assert "of another signature" in refusal(SIGSTORE.signed(PAYLOAD, stamp={"stamped": b"other"}))
    untrusted = SIGSTORE.signed(PAYLOAD, stamp={"key": NEW_KEY})
    assert check(untrusted).at == AT + MINUTE, "a stranger's timestamp says nothing, and the log's time stays"


def test_a_certificate_of_a_root_that_issues_itself_counts() -> None:
    direct = SIGSTORE.certificate(by=SIGSTORE.root)
    (authority,) = SIGSTORE.trusted_root()["certificateAuthorities"]
    authority["certChain"]["certificates"] = authority["certChain"]["certificates"][1:]
    assert check(SIGSTORE.signed(PAYLOAD, direct), certificateAuthorities=[authority]).identity.identity == ME


def test_without_certificate_logs_in_the_root_none_is_asked_for() -> None:
    bare = SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(stamps=[]))
    assert "log of certificates" in refusal(bare)
    assert check(bare, ctlogs=[]).identity.identity == ME


# --- every part of a signature, given otherwise -----------------------------------------------------------------------


def entry_of(document: dict[str, Any]) -> Any:
    return document["verificationMaterial"]["tlogEntries"][0]


def flipped(text: str, place: int = 10) -> str:
    data = bytearray(base64.b64decode(text))
    data[place % len(data)] ^= 1
    return text64(bytes(data))


def change_note(document: dict[str, Any], change: Callable[[str], str]) -> None:
    checkpoint = entry_of(document)["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = change(checkpoint["envelope"])


def other_log(document: dict[str, Any]) -> None:
    """Let another key sign all that the log signs, under the log's id."""
    entry, log = entry_of(document), Log(NEW_KEY)
    proof = entry["inclusionProof"]
    text = proof["checkpoint"]["envelope"].partition("\n\n")[0] + "\n"
    note = text64(SIGSTORE.log.id[:4] + NEW_KEY.sign(text.encode(), ec.ECDSA(SHA256())))
    proof["checkpoint"]["envelope"] = f"{text}\n\u2014 log.example.com {note}\n"
    entry["inclusionPromise"]["signedEntryTimestamp"] = text64(log.promise(entry))


FORGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "the payload": (lambda d: d["dsseEnvelope"].update(payload=text64(PAYLOAD + b" ")), "over what it says"),
    "the payload's type": (lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), "of another kind"),
    "the signature": (
        lambda d: d["dsseEnvelope"]["signatures"][0].update(sig=text64(NEW_KEY.sign(b"", ec.ECDSA(SHA256())))),
        "over what it says",
    ),
    "two signatures": (
        lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}), "exactly 1 is read",
    ),
    "the certificate": (
        lambda d: d["verificationMaterial"]["certificate"].update(rawBytes=text64(SIGSTORE.certificate().der())),
        "over what it says",
    ),
    "no certificate": (
        lambda d: d["verificationMaterial"]["certificate"].update(rawBytes=text64(b"x")), "certificate cannot be read",
    ),
    "the log": (lambda d: entry_of(d)["logId"].update(keyId=text64(OTHER.log.id)), "none that is trusted"),
    "the log's key": (other_log, "checkpoint is not signed by it"),
    "the entry's kind": (
        lambda d: entry_of(d)["kindVersion"].update(kind="hashedrekord", version="0.0.2"), "of another signature",
    ),
    "an unknown kind": (lambda d: entry_of(d)["kindVersion"].update(version="0.0.9"), "which is not read"),
    "the entry": (lambda d: entry_of(d).update(canonicalizedBody=text64(b"{}")), "of another signature"),
    "no entry": (lambda d: d["verificationMaterial"].update(tlogEntries=[]), "exactly 1 is read"),
    "the index in the log": (lambda d: entry_of(d).update(logIndex="7"), "time of its log entry is not signed"),
    "the time": (
        lambda d: entry_of(d).update(integratedTime=str(int(AT.timestamp()) + 61)), "is not signed by the log",
    ),
    "the promise": (
        lambda d: entry_of(d)["inclusionPromise"].update(signedEntryTimestamp=text64(b"0" * 70)),
        "time of its log entry is not signed",
    ),
    "no promise": (lambda d: entry_of(d).pop("inclusionPromise"), "nor a trusted timestamp authority"),
    "the place in the tree": (lambda d: entry_of(d)["inclusionProof"].update(logIndex="5"), "does not lead to"),
    "a place outside": (lambda d: entry_of(d)["inclusionProof"].update(logIndex="9"), "no entry of the tree"),
    "the tree's size": (lambda d: entry_of(d)["inclusionProof"].update(treeSize="8"), "of another tree"),
    "the tree's hash": (
        lambda d: entry_of(d)["inclusionProof"].update(rootHash=flipped(entry_of(d)["inclusionProof"]["rootHash"])),
        "of another tree",
    ),
    "a hash on the way": (
        lambda d: entry_of(d)["inclusionProof"]["hashes"].__setitem__(
            1, flipped(entry_of(d)["inclusionProof"]["hashes"][1])
        ), "does not lead to",
    ),
    "a hash less": (lambda d: entry_of(d)["inclusionProof"]["hashes"].pop(), "too few hashes"),
    "a hash more": (lambda d: entry_of(d)["inclusionProof"]["hashes"].append(text64(b"0" * 32)), "of another tree"),
    "a short hash": (
        lambda d: entry_of(d)["inclusionProof"]["hashes"].__setitem__(0, text64(b"0")), "of another tree",
    ),
    "no proof": (lambda d: entry_of(d).pop("inclusionProof"), "inclusionProof"),
    "the checkpoint's size": (
        lambda d: change_note(d, lambda note: note.replace("\n9\n", "\n8\n")), "is not signed by it",
    ),
    "the checkpoint's origin": (
        lambda d: change_note(d, lambda note: note.replace("log.example.com - 17", "x")), "is not signed by it",
    ),
    "the checkpoint's signature": (
        lambda d: change_note(d, lambda note: note[:-12] + "AAAAAAAAAAA\n"), "is not",
    ),
    "another log's checkpoint": (
        lambda d: change_note(d, lambda _: OTHER.log.checkpoint(9, b"0" * 32)), "is not signed by it",
    ),
    "an earlier checkpoint": (
        lambda d: change_note(d, lambda _: SIGSTORE.log.checkpoint(8, b"0" * 32)), "of another tree",
    ),
    "no checkpoint": (lambda d: change_note(d, lambda _: ""), "checkpoint cannot be read"),
    "a checkpoint without signatures": (
        lambda d: change_note(d, lambda note: note.partition("\n\n")[0] + "\n\n"), "checkpoint cannot be read",
    ),
    "a line more in the checkpoint": (lambda d: change_note(d, lambda note: note + "x\n"), "is not signed by it"),
}  # fmt: skip


@pytest.mark.parametrize("part", FORGED)
def test_a_forged_part_makes_it_count_for_nothing(good: dict[str, Any], part: str) -> None:
    document = copy.deepcopy(good)
    change, words = FORGED[part]
    change(document)
    assert words in refusal(document)
    check(good)


def certificate_cases() -> dict[str, tuple[dict[str, Any], str]]:
    stranger = issue("intermediate", OTHER.root, ca=True, length=0, days=(-900, 900))
    issuer_text, issuer_utf8 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{n}") for n in (1, 8))
    signer = SIGSTORE.certificate()
    return {
        "another authority": ({"by": stranger}, "no trusted authority"),
        "itself a signer's": ({"by": issue("a", SIGSTORE.middle, days=(-900, 900))}, "no trusted authority"),
        "a signer as authority": ({"by": signer}, "no trusted authority"),
        "another certificate log": ({"stamps": [NEW_KEY]}, "log of certificates"),
        "a stamp for another issuer": ({"stamped_by": SIGSTORE.root}, "log of certificates"),
        "no stamp": ({"stamps": []}, "log of certificates"),
        "not for signatures": ({"signs": False}, "not for signing code"),
        "for servers": ({"uses": [Uses.SERVER_AUTH]}, "not for signing code"),
        "another curve": ({"curve": ec.SECP384R1()}, "not for signing code"),
        "two names": ({"names": [x509.RFC822Name(ME), x509.RFC822Name("eve@example.com")]}, "whose it is"),
        "a name of a host": ({"names": [x509.DNSName("example.com")]}, "whose it is"),
        "two issuers": ({"texts": {issuer_text: b"https://eve.example.com"}}, "whose it is"),
        "no issuer": ({"texts": {issuer_text: None, issuer_utf8: None}}, "whose it is"),
        "an issuer that is no text": ({"texts": {issuer_utf8: b"\x0c\x7fx"}}, "whose it is"),
    }


CERTIFICATES = certificate_cases()


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_that_is_not_right_counts_for_nothing(case: str) -> None:
    other, words = CERTIFICATES[case]
    assert words in refusal(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(**other)))


def test_either_form_of_the_issuer_is_enough() -> None:
    for n in (1, 8):
        only = {x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{n}"): None}
        assert check(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(texts=only))).identity.issuer == ISSUER


def test_a_signature_after_the_certificate_s_ten_minutes_counts_for_nothing() -> None:
    holder = SIGSTORE.certificate()
    for minutes, counts in ((0, True), (10, True), (11, False), (-1, False), (60 * 24, False)):
        document = SIGSTORE.signed(PAYLOAD, holder, logged=AT + minutes * MINUTE)
        if counts:
            check(document)
        else:
            assert "no trusted authority vouches" in refusal(document)
    late = SIGSTORE.signed(PAYLOAD, holder, logged=AT + 11 * MINUTE, log=SIGSTORE.tiled)
    assert "no trusted authority vouches" in refusal(late), "by a timestamp too"


def test_an_entry_of_another_signature_by_the_same_certificate_counts_for_nothing() -> None:
    holder = SIGSTORE.certificate()
    document, other = SIGSTORE.signed(PAYLOAD, holder), SIGSTORE.signed(PAYLOAD + b" ", holder)
    document["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    assert "of another signature" in refusal(document)
    tiled, other = (SIGSTORE.signed(data, holder, log=SIGSTORE.tiled) for data in (PAYLOAD, PAYLOAD + b" "))
    tiled["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    assert "of another signature" in refusal(tiled)


STAMPS: dict[str, tuple[dict[str, Any], str]] = {
    "another message": ({"stamped": b"other"}, "of another signature"),
    "another time in the attributes": ({"digested": b"other"}, "of another time"),
    "another key": ({"key": NEW_KEY}, "nor a trusted timestamp authority"),
    "refused": ({"status": b"\2"}, "not granted"),
}


@pytest.mark.parametrize("case", STAMPS)
def test_a_timestamp_that_is_not_right_counts_for_nothing(case: str) -> None:
    other, words = STAMPS[case]
    assert words in refusal(SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled, stamp=other))


def test_no_byte_of_what_a_timestamp_says_can_be_another_one() -> None:
    document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)
    (held,) = document["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    answer = base64.b64decode(held["signedTimestamp"])
    signature = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"])
    authorities = parse_trusted_root(json.dumps(SIGSTORE.trusted_root()).encode(), "root").timestamp_authorities
    assert stamped_at(answer, signature, authorities) == AT + MINUTE
    imprint, time = hashlib.sha256(signature).digest(), f"{AT + MINUTE:%Y%m%d%H%M%SZ}".encode()
    spans = [(answer.index(each), len(each)) for each in (imprint, time)] + [(len(answer) - 64, 64)]
    for place in (begin + i for begin, size in spans for i in range(size)):
        changed = bytearray(answer)
        changed[place] ^= 1
        try:
            assert stamped_at(bytes(changed), signature, authorities) is None, place
        except ValueError:
            pass


# --- what the trusted root says ---------------------------------------------------------------------------------------


def ended(document: dict[str, Any], name: str, kind: str = "validFor") -> dict[str, Any]:
    """Return a member of the trusted root whose first element ended before the signature was made."""
    changed = copy.deepcopy(document[name])
    place = changed[0]["publicKey"] if name in ("tlogs", "ctlogs") else changed[0]
    place[kind]["end"] = f"{AT - DAY:%Y-%m-%dT%H:%M:%S.999Z}"
    return {name: changed}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tlogs", "did not count at the time"),
        ("certificateAuthorities", "no trusted authority"),
        ("ctlogs", "log of certificates"),
    ],
)
def test_what_ended_before_counts_for_nothing(good: dict[str, Any], name: str, words: str) -> None:
    assert words in refusal(good, **ended(SIGSTORE.trusted_root(), name))


def test_a_timestamp_authority_that_ended_before_counts_for_nothing() -> None:
    document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)
    assert "nor a trusted" in refusal(document, **ended(SIGSTORE.trusted_root(), "timestampAuthorities"))
    assert "nor a trusted" in refusal(document, timestampAuthorities=[])
    root = SIGSTORE.trusted_root()
    root["tlogs"][1]["publicKey"]["validFor"]["end"] = f"{AT - DAY:%Y-%m-%dT%H:%M:%SZ}"
    assert "did not count at the time" in refusal(document, tlogs=root["tlogs"])


def test_another_instance_s_signature_counts_for_nothing(good: dict[str, Any]) -> None:
    assert "none that is trusted" in refusal(OTHER.signed(PAYLOAD))
    for name in ("certificateAuthorities", "ctlogs", "tlogs"):
        refusal(good, **{name: OTHER.trusted_root()[name]})


def test_a_stamp_of_a_certificate_that_is_for_no_stamping_counts_for_nothing() -> None:
    document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)
    plain = issue("stamping", SIGSTORE.root, key=SIGSTORE.stamping.key, days=(-900, 900))
    root = SIGSTORE.trusted_root()
    root["timestampAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = text64(plain.der())
    assert "nor a trusted" in refusal(document, timestampAuthorities=root["timestampAuthorities"])


def test_a_key_of_a_kind_that_is_not_known_vouches_for_nothing(good: dict[str, Any]) -> None:
    root = SIGSTORE.trusted_root()
    root["ctlogs"][0]["publicKey"]["rawBytes"] = text64(der(0x30, b"x"))
    assert "log of certificates" in refusal(good, ctlogs=root["ctlogs"])


def test_a_name_of_fulcio_s_own_kind_is_an_identity() -> None:
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), der(12, b"alice"))
    assert check(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(names=[name]))).identity.identity == "alice"
