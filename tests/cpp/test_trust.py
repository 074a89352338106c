"""A device's policy holds for the C++ loader as for Python's: what it lets in, and the words of what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cpp_library import Library
from cpp_policy import both
from hostile_signed import mutation, splice
from small_bundles import small_bundle
from trust_cases import Holder, device, issue, signed_bundle
from updater_cases import may_mount

from edgepack.base import documents
from edgepack.bundle.archive import (
    Source,
    copy_member,
    measure,
    open_checked,
    read_member,
    write_archive,
)
from edgepack.bundle.layout import MANIFEST, SIGNATURE
from edgepack.trust.envelope import from_bytes, to_bytes
from edgepack.trust.keys import PrivateKey
from edgepack.trust.policy import VARIABLE
from edgepack.trust.root import SignedRoot, make_root, sign_root
from edgepack.trust.sign import sign

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("engines")]
NOW = datetime.now(UTC)


POLICIES: tuple[tuple[dict[str, Any], bool], ...] = (
    ({}, True),
    ({"threshold": 2}, True),
    ({"threshold": 3}, False),
    ({"models": ["small"], "targets": ["test-board"], "engines": ["onnxruntime"], "lowest": {"small": "1"}}, True),
    ({"models": ["large"]}, False),
    ({"targets": ["a", "b"]}, False),
    ({"engines": ["openvino"]}, False),
    ({"lowest": {"small": "1.0.1"}}, False),
    ({"lowest": {"small": "v2"}}, False),
    ({"lowest": {"small": "1", "b": "\u0662", "a": ""}}, False),
    ({"max_age_days": 2}, True),
    ({"max_age_days": 36500}, True),
    ({"max_age_days": 36501}, False),
    ({"max_age_days": 10**30}, False),
    ({"native": "refused"}, True),
    ({"keep": 0}, False),
    ({"format": 2}, False),
    ({"threshold": 0}, False),
    ({"max_age_days": 0}, False),
    ({"require_signature": False, "threshold": 2}, False),
    ({"require_signature": False, "native": "allowed"}, False),
    ({"require_signature": "yes"}, False),
    ({"keys": "nowhere"}, False),
)


@pytest.mark.parametrize(("policy", "taken"), POLICIES, ids=[json.dumps(policy) for policy, _ in POLICIES])
def test_the_same_is_taken(
    policy: dict[str, Any], taken: bool, library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, str(device(tmp_path, *keys[:2], **policy)))
    python, cpp = both(library, signed)
    assert (cpp is None) == taken
    assert cpp == python


@pytest.mark.skipif(not may_mount(), reason="mounts need root")
def test_the_users_policy_holds_without_home(exported: Path, tmp_path: Path) -> None:
    """A service may be started without $HOME: the home folder is then that of the list of users, as in Python."""
    bundle, home, users = small_bundle(tmp_path / "bundle"), tmp_path / "home", tmp_path / "passwd"
    users.write_text(f"root:x:{os.getuid()}:0::{home}:/bin/sh\n")
    within = 'mount --bind "$1" /etc/passwd; shift; exec env -u HOME -u XDG_CONFIG_HOME -u EDGEPACK_POLICY "$@"'
    words = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        within,
        "sh",
        users,
        exported / "bin" / "edgepack-run",
        "verify",
        bundle,
    ]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0, "without a policy it is taken"
    (home / ".config" / "edgepack").mkdir(parents=True)
    (home / ".config" / "edgepack" / "policy.json").write_text(json.dumps({"format": 1, "models": ["another"]}))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "the model small is not one of this device's" in done.stderr


def test_a_stranger_signed_it(library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, str(device(tmp_path, keys[2])))
    python, cpp = both(library, signed)
    assert cpp is not None
    assert cpp == python
    assert "by none of the keys" in cpp.message


def test_nobody_signed_it(library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path,
                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, str(device(tmp_path, keys[0])))
    python, cpp = both(library, small_bundle(tmp_path / "bundle"))
    assert cpp is not None
    assert cpp == python
    assert "is not signed" in cpp.message


def test_a_signature_that_is_out_of_date(library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, str(device(tmp_path, keys[0])))
    day = timedelta(days=1)
    for expires, taken in ((NOW - day, False), (NOW + day, True)):
        with patch("edgepack.trust.sign._now", lambda: (NOW - 2 * day).replace(microsecond=0)):
            path = signed_bundle(tmp_path / str(taken), keys[0], expires=expires.replace(microsecond=0))
        python, cpp = both(library, path)
        assert (cpp is None) == taken
        assert cpp == python


@pytest.mark.parametrize("damage", ["writable", "text", "private"])
def test_a_policy_that_is_not_to_be_believed(
    damage: str, library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = device(tmp_path / "etc", keys[0])
    if damage == "writable":
        path.chmod(0o666)
    elif damage == "text":
        path.write_text("{")
    elif damage == "private":
        (path.parent / "keys" / "x.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    monkeypatch.setenv(VARIABLE, str(path))
    python, cpp = both(library, signed)
    assert python is not None
    assert cpp == python


# --- certificates -----------------------------------------------------------------------------------------------------

ROOT = issue("root", ca=True, days=(-10, 300))
MIDDLE = issue("middle", ROOT, ca=True, length=0, days=(-5, 100))
SIGNER = issue("alice", MIDDLE)
RENEWED = issue("alice2", MIDDLE, key=SIGNER.key)
BOB = issue("bob", ROOT)
OTHER = issue("root", ca=True)
HALT = issue("halt", ROOT, ca=True, issues=False)
LAX = issue("lax", ROOT, ca=True, critical=False)
LAX_ROOT = issue("lax", ca=True, critical=False)
DEEP = issue("deeper", MIDDLE, ca=True)  # the middle one may have no authority below it
OLD = issue("old", MIDDLE, days=(-4, -2))
OVER = issue("over", ca=True, days=(-10, -1))


def line(most: int) -> tuple[Holder, ...]:
    """A signer and so many authorities between him and the root."""
    by, between = ROOT, []
    for i in range(most):
        by = issue(f"a{i}", by, ca=True)
        between.append(by)
    return (issue("far", by), *reversed(between))


# signers, what goes with them, the authority, the policy, whether it is taken
CERTIFIED: dict[str, tuple[tuple[Holder, ...], tuple[Holder, ...], Holder, dict[str, Any], bool]] = {
    "a chain": ((SIGNER,), (MIDDLE,), ROOT, {}, True),
    "issued by the authority": ((BOB,), (), ROOT, {}, True),
    "an authority that is not its own issuer": ((SIGNER,), (), MIDDLE, {}, True),
    "two signers": ((SIGNER, BOB), (MIDDLE,), ROOT, {"threshold": 2}, True),
    "one signer with two certificates": ((SIGNER,), (RENEWED, MIDDLE), ROOT, {"threshold": 2}, False),
    "its name": ((SIGNER,), (MIDDLE,), ROOT, {"signers": ["bob", "alice"]}, True),
    "another name": ((SIGNER,), (MIDDLE,), ROOT, {"signers": ["bob"]}, False),
    "another root of the same name": ((SIGNER,), (MIDDLE,), OTHER, {}, False),
    "a link is missing": ((SIGNER,), (), ROOT, {}, False),
    "its own issuer": ((issue("alice"),), (), ROOT, {}, False),
    "the authority itself": ((ROOT,), (), ROOT, {}, False),
    "one between": ((MIDDLE,), (), ROOT, {}, False),
    "issued by a signer": ((issue("a", SIGNER),), (SIGNER, MIDDLE), ROOT, {}, False),
    "over": ((OLD,), (MIDDLE,), ROOT, {}, False),
    "not yet": ((issue("a", MIDDLE, days=(2, 9)),), (MIDDLE,), ROOT, {}, False),
    "an authority that is over": ((issue("a", OVER),), (), OVER, {}, False),
    "too deep": ((issue("a", DEEP),), (DEEP, MIDDLE), ROOT, {}, False),
    "not for signatures": ((issue("a", MIDDLE, signs=False),), (MIDDLE,), ROOT, {}, False),
    "may issue, but not for who knows nothing of it": ((issue("a", LAX),), (LAX,), ROOT, {}, False),
    "the same of the authority": ((issue("a", LAX_ROOT),), (), LAX_ROOT, {}, False),
    "may not issue": ((issue("a", HALT),), (HALT,), ROOT, {}, False),
}
for count in (4, 5):
    holder, *between = line(count)
    CERTIFIED[f"{count} between"] = ((holder,), tuple(between), ROOT, {}, count == 4)


def certified(folder: Path, holders: tuple[Holder, ...], others: tuple[Holder, ...]) -> Path:
    path = small_bundle(folder, 2)
    sign(path, tuple(holder.private(folder) for holder in holders))
    repacked(path, tuple(each.der() for each in (*holders, *others)))
    return path


def with_authority(folder: Path, authority: Holder, **policy: Any) -> str:
    (folder / "authorities").mkdir(parents=True)
    (folder / "authorities" / "ca.pem").write_bytes(authority.pem())
    return str(device(folder, authorities="authorities", **policy))


@pytest.mark.parametrize("case", CERTIFIED)
def test_the_same_certificates_count(
    case: str, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders, others, authority, policy, taken = CERTIFIED[case]
    path = certified(tmp_path, holders, others)
    monkeypatch.setenv(VARIABLE, with_authority(tmp_path / "etc", authority, **policy))
    python, cpp = both(library, path)
    assert (cpp is None) == taken
    assert cpp == python


def test_certificates_of_strangers_are_nothing(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are none, one that is cut or changed, and one of somebody who is trusted and has not signed."""
    changed = bytearray(SIGNER.der())
    changed[-3] ^= 1
    eve = issue("eve", OTHER)
    path = small_bundle(tmp_path, 2)
    odd = (b"", b"\x30\x80", b"x" * 5000, SIGNER.der()[:-5], SIGNER.der() + b"x", bytes(changed), MIDDLE.der())
    sign(path, (eve.private(tmp_path),))
    repacked(path, (*odd, SIGNER.der(), eve.der()))
    monkeypatch.setenv(VARIABLE, with_authority(tmp_path / "etc", ROOT))
    python, cpp = both(library, path)
    assert cpp is not None
    assert cpp == python
    assert "by none of the keys" in cpp.message


def repacked(path: Path, certificates: tuple[bytes, ...]) -> None:
    """Give a signed bundle other certificates, as anybody can."""
    with open_checked(path) as (file, checked):
        assert checked.signature is not None
        envelope = dataclasses.replace(from_bytes(checked.signature, "it"), certificates=certificates)
        sources: dict[str, Source] = {}
        for i, entry in enumerate(checked.manifest.files):
            with (path.parent / f"member{i}").open("wb") as copy:
                copy_member(checked, entry.path, file, copy)
            sources[entry.path] = measure(path.parent / f"member{i}")
        (path.parent / "signature").write_bytes(to_bytes(envelope))
        sources[SIGNATURE] = measure(path.parent / "signature")
        write_archive(path, read_member(checked, MANIFEST), sources)


def test_changed_certificates_count_for_both_or_for_neither(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte here or there, of the signer's certificate and of the one above: what is signed of them is all of them."""
    path = certified(tmp_path, (SIGNER,), (MIDDLE,))
    monkeypatch.setenv(VARIABLE, with_authority(tmp_path / "etc", ROOT))
    chance, taken = random.Random(3), 0
    for _ in range(40):
        ders = [bytearray(SIGNER.der()), bytearray(MIDDLE.der())]
        for _ in range(chance.choice((1, 1, 4))):
            der = chance.choice(ders)
            der[chance.randrange(len(der))] = chance.randrange(256)
        repacked(path, tuple(bytes(der) for der in ders))
        python, cpp = both(library, path)
        assert cpp == python
        taken += cpp is None
    assert taken <= 3  # a byte that became itself


def test_keys_count_beside_certificates(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with certificates, on a device that knows the key itself."""
    path = certified(tmp_path, (SIGNER,), (MIDDLE,))
    monkeypatch.setenv(VARIABLE, str(device(tmp_path / "etc", SIGNER.private(tmp_path))))
    assert both(library, path) == (None, None)


@pytest.mark.parametrize("authorities", ["none", "no folder", "no certificate", "writable"])
def test_authorities_that_are_not_to_be_believed(
    authorities: str, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certified(tmp_path, (SIGNER,), (MIDDLE,))
    monkeypatch.setenv(VARIABLE, with_authority(tmp_path / "etc", ROOT))
    file = tmp_path / "etc" / "authorities" / "ca.pem"
    if authorities == "none":
        file.unlink()
    elif authorities == "no folder":
        file.parent.rename(tmp_path / "elsewhere")
    elif authorities == "no certificate":
        file.write_text("no certificate")
    else:
        file.chmod(0o666)
    python, cpp = both(library, path)
    assert python is not None
    assert cpp is not None
    assert (cpp.kind, cpp.message.split(": ")[0]) == (python.kind, python.message.split(": ")[0])


@pytest.mark.parametrize(
    "policy",
    [
        {"root": "root.json", "authorities": "a"},
        {"signers": ["x"]},
        {"require_signature": False, "root": "root.json"},
        {"require_signature": False, "authorities": "a"},
    ],
)
def test_policies_that_contradict_themselves(
    policy: dict[str, Any], library: Library, signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(device(tmp_path, **policy)))
    python, cpp = both(library, signed)
    assert python is not None
    assert cpp == python


# --- roots of trust ---------------------------------------------------------------------------------------------------


def rooted(folder: Path, root: SignedRoot | bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a policy that names a root of trust; return where the root is."""
    monkeypatch.setenv(VARIABLE, str(device(folder, root="root.json")))
    place = folder / "root.json"
    place.write_bytes(root if isinstance(root, bytes) else documents.to_json(root).encode())
    return place


def root_of(
    by: tuple[PrivateKey, ...], bundles: tuple[PrivateKey, ...], days: int = 10, needed: int = 1, of_root: int = 1
) -> SignedRoot:
    until = (NOW + timedelta(days=days)).replace(microsecond=0)
    public = tuple(key.public for key in by), tuple(key.public for key in bundles)
    return sign_root(make_root(*public, until, root_threshold=of_root, bundle_threshold=needed), by)


def unsigned_by_one(root: SignedRoot) -> SignedRoot:
    return dataclasses.replace(root, signatures=root.signatures[:1])


def renumbered(root: SignedRoot) -> SignedRoot:
    return dataclasses.replace(root, signed=dataclasses.replace(root.signed, version=7))


ROOTS: dict[str, tuple[Callable[[tuple[PrivateKey, ...]], SignedRoot], bool, str]] = {
    "one of two": (lambda k: root_of(k[2:], k[:2]), True, ""),
    "both": (lambda k: root_of(k[2:], k[:2], needed=2), True, ""),
    "a stranger's": (lambda k: root_of(k[2:], k[2:]), False, "by none of the keys"),
    "one, and both are needed": (lambda k: root_of(k[2:], (k[0], k[2]), needed=2), False, "by 1 of the keys"),
    "out of date": (lambda k: root_of(k[2:], k[:2], days=-1), False, "has been out of date since"),
    "too few signed it": (lambda k: unsigned_by_one(root_of(k[1:], k[:2], of_root=2)), False, "signed by 1 of its own"),
    "nobody signed it": (
        lambda k: dataclasses.replace(root_of(k[2:], k[:2]), signatures=()), False, "is signed by 0 of its own",
    ),
    "changed after": (
        lambda k: renumbered(root_of(k[2:], k[:2])), False, "is signed by 0 of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROOTS)
def test_the_root_of_trust_says_whose_signatures_count(
    name: str, library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make, taken, words = ROOTS[name]
    rooted(tmp_path, make(keys), monkeypatch)
    python, cpp = both(library, signed)
    assert (cpp is None) == taken
    assert cpp == python
    assert cpp is None or words in cpp.message


def test_a_root_that_is_not_there_or_others_may_write(
    library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = rooted(tmp_path, root_of(keys[2:], keys[:2]), monkeypatch)
    place.chmod(0o666)
    python, cpp = both(library, signed)
    assert cpp is not None
    assert cpp == python
    place.unlink()
    python, cpp = both(library, signed)
    assert cpp is not None
    assert cpp == python


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *way, last = path.split("/")
        place: Any = document
        for step in way:
            place = next(iter(place.values())) if step == "*" else place[step]
        place[last] = value

    return change


DAMAGE = [
    _set("signed/_type", "targets"), _set("signed/spec_version", "2.0"), _set("signed/version", 0),
    _set("signed/version", -3), _set("signed/version", "1"), _set("signed/expires", "tomorrow"), _set("signed/more", 1),
    _set("signed/expires", "2027-13-01T00:00:00Z"), _set("signed/keys/*/scheme", "rsa"),
    _set("signed/keys/*/keytype", "x"), _set("signed/keys", {}), _set("signed/roles", {}),
    _set("signed/roles/targets/threshold", 0), _set("signed/roles/root/threshold", 9),
    _set("signed/roles/targets/keyids", ["nowhere"]), _set("signatures", []),
    _set("signatures", [{"keyid": "x", "sig": "no"}]), _set("signatures", [{"keyid": "x", "sig": "AB cd"}]),
    _set("signatures", [{"keyid": "x", "sig": "ab"}] * 65), _set("signed", None),
    _set("signed/consistent_snapshot", False),
    _set("signed/keys/*/keyval", {"public": "-----BEGIN PRIVATE KEY-----"}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(DAMAGE)))
def test_a_root_that_is_none_is_refused_in_the_same_words(
    number: int, library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    document = json.loads(documents.to_json(root_of(keys[2:], keys[:2])))
    DAMAGE[number](document)
    rooted(tmp_path, json.dumps(document).encode(), monkeypatch)
    python, cpp = both(library, signed)
    assert cpp is not None
    assert cpp == python


def test_no_damaged_root_is_taken(library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Bytes at random, 400 times; what both take says the same as before (spaces, digits of a signature's case)."""
    good = documents.to_json(root_of(keys[2:], keys[:2])).encode()
    place = rooted(tmp_path, good, monkeypatch)
    taken = 0
    for seed in range(400):
        dice = random.Random(seed)
        data = bytearray(good)
        data[dice.randrange(len(data))] = dice.choice(b'{}[]",:0123456789abcdefABCDEF \n\\\0\xff')
        place.write_bytes(data)
        python, cpp = both(library, signed)
        assert (cpp is None) == (python is None), seed
        assert cpp is None or python is None or cpp.kind == python.kind, seed
        taken += cpp is None
    print(f"{taken} of 400 roots with a changed byte mean the same")
    assert taken < 40


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=[pytest.mark.own, pytest.mark.timeout(3600)])])
def test_no_mutation_and_no_splice_is_taken(
    many: bool, library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """A few with every test; ``make hostile`` has as many as are asked for, and a tenth of that in splices."""
    count = int(request.config.getoption("--bundles")) if many else 300
    monkeypatch.setenv(VARIABLE, str(device(tmp_path / "etc", *keys[:2], threshold=2)))
    good = [
        signed_bundle(tmp_path / str(i), *keys[:2], channels=2 + i // 2, version=str(1 + i % 2)).read_bytes()
        for i in range(4)
    ]
    path = tmp_path / "x.edgepack"
    for data in good:
        path.write_bytes(data)
        assert both(library, path) == (None, None)
    refused = Counter[str]()
    for seed in range(count + max(count // 10, 100)):
        path.write_bytes(mutation(good[0], seed) if seed < count else splice(good, seed))
        python, cpp = both(library, path)
        assert python is not None
        assert cpp is not None, f"seed {seed} was taken"
        assert cpp.kind == python.kind, f"seed {seed}"
        assert os.fspath(path) in cpp.message
        refused["splices" if seed >= count else "mutations"] += 1
    print(f"refused by both, of {count} mutations and {max(count // 10, 100)} splices: {dict(refused)}")
