"""Keyless signatures: what counts, and each part of one forged."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtendedKeyUsageOID as Uses
from sigstore_double import AT, ISSUER, ME, WORKFLOW, der, text64
from sigstore_forged import CERTIFICATES, FORGED, NEW_KEY, OTHER, PAYLOAD, SIGSTORE, STAMPS, entry_of
from trust_cases import DAY, NOW, issue

from edgepack.errors import ConfigError
from edgepack.trust.envelope import PAYLOAD_TYPE, pre_authentication
from edgepack.trust.keyless.bundle import from_file
from edgepack.trust.keyless.certificate import Identity
from edgepack.trust.keyless.check import check_keyless
from edgepack.trust.keyless.timestamp import stamped_at
from edgepack.trust.keyless.trusted_root import parse_trusted_root

MINUTE = timedelta(minutes=1)


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
    late = SIGSTORE.signed(PAYLOAD, stamp={"when": AT + 11 * MINUTE})
    assert "no trusted authority vouches" in refusal(late), "the certificate must hold at both times"
    untrusted = SIGSTORE.signed(PAYLOAD, stamp={"key": NEW_KEY})
    assert check(untrusted).at == AT + MINUTE, "a stranger's timestamp says nothing, and the log's time stays"


@pytest.mark.parametrize("kind", [SHA256(), SHA384(), SHA512()], ids=lambda kind: kind.name)
def test_a_timestamp_counts_by_every_hash_and_to_a_part_of_a_second(kind: Any) -> None:
    time = f"{AT + MINUTE:%Y%m%d%H%M%S}.25Z".encode()
    found = check(SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled, stamp={"hash": kind, "time": time}))
    assert found.at == AT + MINUTE + timedelta(seconds=0.25)


def test_a_timestamp_authority_of_one_certificate_counts_while_that_holds() -> None:
    document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)
    root = SIGSTORE.trusted_root()
    days = (AT - NOW).days
    for begin, end, counts in ((-1, 1, True), (1, 2, False), (-2, -1, False)):
        alone = issue("alone", key=SIGSTORE.stamping.key, days=(days + begin, days + end), uses=[Uses.TIME_STAMPING])
        root["timestampAuthorities"][0]["certChain"]["certificates"] = [{"rawBytes": text64(alone.der())}]
        trusted = {"timestampAuthorities": root["timestampAuthorities"]}
        if counts:
            assert check(document, **trusted).at == AT + MINUTE
        else:
            assert "nor a trusted" in refusal(document, **trusted)


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


@pytest.mark.parametrize("part", FORGED)
def test_a_forged_part_makes_it_count_for_nothing(good: dict[str, Any], part: str) -> None:
    document = copy.deepcopy(good)
    change, words = FORGED[part]
    change(document)
    assert words in refusal(document)
    check(good)


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_that_is_not_right_counts_for_nothing(case: str) -> None:
    other, words = CERTIFICATES[case]
    assert words in refusal(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(**other)))


def said_alike(words: str) -> str:
    """Return a refusal without what differs from one signature to the next, and without another library's words."""
    words = re.sub(r"its log [0-9a-f]{16}", "its log ...", words)
    words = re.sub(r"'[0-9.xZ]+' is not a time", "... is not a time", words)
    words = re.sub(r"^signature: (.*: )?(?=(the key|it ) ?)", "", words)  # of a document: where it stands
    ours = (
        "granted",
        "signed",
        "not a timestamp",
        "something else",
        "twice",
        "unknown hash",
        "another time",
        "not a time",
    )
    head, found, tail = words.partition("its timestamp cannot be read: ")
    if found and not any(each in tail for each in ours):
        return f"{head}{found}..."
    return re.sub(r"(it is not base64).*", r"\1", words)


def refusals_table() -> str:
    """Return the table of docs/keyless-refusals.md: what is said, and of which forgeries."""
    found: dict[str, list[str]] = {}
    for part, (change, _) in FORGED.items():
        change(document := SIGSTORE.signed(PAYLOAD))
        found.setdefault(said_alike(refusal(document)), []).append(part)
    for case, (other, _) in CERTIFICATES.items():
        document = SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(**other))
        found.setdefault(said_alike(refusal(document)), []).append(f"certificate: {case}")
    for case, (stamp, _) in STAMPS.items():
        document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled, stamp=stamp)
        found.setdefault(said_alike(refusal(document)), []).append(f"timestamp: {case}")
    return "\n".join(f"| `{words}` | {'; '.join(cases)} |" for words, cases in sorted(found.items()))


def test_the_page_of_refusals_has_every_forgery_and_what_is_said_of_it() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "keyless-refusals.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == refusals_table().splitlines(), f"write this table:\n{refusals_table()}"


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


@pytest.mark.parametrize("log", ["log", "tiled"])
def test_an_entry_that_differs_in_one_thing_counts_for_nothing(log: str) -> None:
    """Of the same payload, signed once more; of the same key, certified once more; or of another payload."""
    kept, holder = getattr(SIGSTORE, log), SIGSTORE.certificate()
    document, again = (SIGSTORE.signed(PAYLOAD, holder, log=kept) for _ in range(2))
    check(document)
    entry = entry_of(document)
    body, kind = (
        base64.b64decode(entry["canonicalizedBody"]),
        (entry["kindVersion"]["kind"], entry["kindVersion"]["version"]),
    )
    plain, encoded = (
        hashlib.sha256(PAYLOAD).digest(),
        hashlib.sha256(pre_authentication(PAYLOAD_TYPE, PAYLOAD)).digest(),
    )
    payload = body.replace(plain.hex().encode(), b"0" * 64).replace(
        text64(encoded).encode(), text64(bytes(32)).encode()
    )
    other = SIGSTORE.certificate(key=holder.key)
    whose = body.replace(text64(holder.pem()).encode(), text64(other.pem()).encode())
    whose = whose.replace(text64(holder.der()).encode(), text64(other.der()).encode())
    assert len({body, payload, whose}) == 3
    for changed in (base64.b64decode(entry_of(again)["canonicalizedBody"]), payload, whose):
        document["verificationMaterial"]["tlogEntries"] = [kept.entry(changed, kind, AT + MINUTE)]
        assert "of another signature" in refusal(document)
    document["verificationMaterial"]["tlogEntries"] = [kept.entry(body, kind, AT + MINUTE)]
    check(document)


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


def test_a_stamp_by_whom_the_root_s_own_authority_did_not_certify_counts_for_nothing() -> None:
    document = SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled)
    root = SIGSTORE.trusted_root()
    root["timestampAuthorities"][0]["certChain"]["certificates"][1]["rawBytes"] = text64(OTHER.root.der())
    assert "nor a trusted" in refusal(document, timestampAuthorities=root["timestampAuthorities"])


def test_a_key_of_a_kind_that_is_not_known_vouches_for_nothing(good: dict[str, Any]) -> None:
    root = SIGSTORE.trusted_root()
    root["ctlogs"][0]["publicKey"]["rawBytes"] = text64(der(0x30, b"x"))
    assert "log of certificates" in refusal(good, ctlogs=root["ctlogs"])


def test_a_name_of_fulcio_s_own_kind_is_an_identity() -> None:
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), der(12, b"alice"))
    assert check(SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(names=[name]))).identity.identity == "alice"
