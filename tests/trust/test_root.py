"""The root of trust: keys change hands by TUF's rules, and nothing brings an old key back."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trust_cases import new_key

from edgepack.base import documents
from edgepack.errors import ConfigError, TrustError
from edgepack.trust.keys import PrivateKey
from edgepack.trust.root import (
    RootSignature,
    SignedRoot,
    canonical,
    make_root,
    next_root,
    parse_root,
    read_root,
    sign_root,
    take_roots,
    write_root,
)

NOW = datetime(2027, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=365)


def made(
    root: tuple[PrivateKey, ...],
    bundles: tuple[PrivateKey, ...],
    previous: SignedRoot | None = None,
    by: tuple[PrivateKey, ...] | None = None,
    expires: datetime = LATER,
    **thresholds: int,
) -> SignedRoot:
    unsigned = make_root(
        tuple(k.public for k in root), tuple(k.public for k in bundles), expires, previous, **thresholds
    )
    return sign_root(unsigned, by if by is not None else root)


def text(root: SignedRoot) -> bytes:
    return documents.to_json(root).encode()


class Repository:
    """Three root keys and two for bundles, and the first root of trust."""

    def __init__(self, folder: Path) -> None:
        self.root = tuple(new_key(folder, f"root{i}") for i in range(3))
        self.bundles = tuple(new_key(folder, f"release{i}") for i in range(2))
        self.first = made(self.root[:2], self.bundles[:1], root_threshold=2)


@pytest.fixture
def ours(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "ours")


def refused(trusted: SignedRoot, root: SignedRoot | bytes, words: str) -> None:
    with pytest.raises(TrustError, match=words) as caught:
        next_root(trusted, root if isinstance(root, bytes) else text(root), "it")
    assert caught.value.hint


def test_canonical_json_is_that_of_tuf() -> None:
    value = {"b": [1, True, None], "a": 'x"\\\n\u00e9', "": {}}
    assert canonical(value) == '{"":{},"a":"x\\"\\\\\n\u00e9","b":[1,true,null]}'.encode()
    with pytest.raises(TypeError):
        canonical(1.5)


def test_keys_are_rotated_and_revoked(ours: Repository, tmp_path: Path) -> None:
    place = tmp_path / "root.json"
    write_root(ours.first, place)
    second = made(ours.root[1:], ours.bundles, ours.first, by=ours.root, root_threshold=2)
    third = made(ours.root[1:], ours.bundles[1:], second, root_threshold=2)
    found = take_roots(place, [("2", text(second)), ("3", text(third))], NOW)
    assert (found.version, found.bundle_keys()[0].id) == (3, ours.bundles[1].public.id)
    assert read_root(place) == third
    assert ours.bundles[0].public.id not in {key.id for key in found.bundle_keys()}


def test_a_root_that_was_rolled_back_is_refused(ours: Repository, tmp_path: Path) -> None:
    second = made(ours.root[:2], ours.bundles[1:], ours.first, root_threshold=2)
    refused(second, ours.first, "it does not go back")
    refused(second, second, "it does not go back")
    place = tmp_path / "root.json"
    write_root(second, place)
    with pytest.raises(TrustError, match="does not go back"):
        take_roots(place, [("1", text(ours.first))], NOW)
    assert read_root(place) == second


def test_no_version_is_passed_over(ours: Repository) -> None:
    second = made(ours.root[:2], ours.bundles, ours.first, root_threshold=2)
    third = made(ours.root[:2], ours.bundles, second, root_threshold=2)
    refused(ours.first, third, "the next after 1 is needed")


def test_a_frozen_root_is_out_of_date_some_day(ours: Repository, tmp_path: Path) -> None:
    """Whoever keeps newer roots away can do so until the last one known is out of date."""
    place = tmp_path / "root.json"
    write_root(ours.first, place)
    assert take_roots(place, [], LATER - timedelta(seconds=1)) == ours.first
    with pytest.raises(TrustError, match="has been out of date since 2028-01-01T00:00:00Z"):
        take_roots(place, [], LATER)


def test_an_expired_root_is_taken_on_the_way_and_not_at_the_end(ours: Repository, tmp_path: Path) -> None:
    place = tmp_path / "root.json"
    write_root(ours.first, place)
    second = made(ours.root[:2], ours.bundles, ours.first, root_threshold=2, expires=NOW - timedelta(days=1))
    third = made(ours.root[:2], ours.bundles, second, root_threshold=2)
    with pytest.raises(TrustError, match="out of date"):
        take_roots(place, [("2", text(second))], NOW)
    assert read_root(place) == ours.first, "nothing is taken by halves"
    assert take_roots(place, [("2", text(second)), ("3", text(third))], NOW).version == 3


def test_mixed_roots_are_refused(ours: Repository, tmp_path: Path) -> None:
    """Parts of several valid documents do not make one."""
    theirs = Repository(tmp_path / "theirs")
    second = made(ours.root[:2], ours.bundles, ours.first, root_threshold=2)
    foreign = made(theirs.root[:2], theirs.bundles, theirs.first, root_threshold=2)
    refused(ours.first, foreign, "signed by 0 of the present root's root keys, and 2 are needed")
    refused(ours.first, dataclasses.replace(second, signatures=ours.first.signatures), "0 of its own root keys")
    refused(ours.first, dataclasses.replace(foreign, signatures=second.signatures), "0 of its own root keys")
    mixed = dataclasses.replace(second.signed, roles=foreign.signed.roles, keys=foreign.signed.keys)
    refused(ours.first, sign_root(SignedRoot((), mixed), ours.root), "0 of its own root keys")
    third = made(theirs.root[:2], theirs.bundles, second, root_threshold=2)
    refused(second, third, "0 of the present root's")


def test_the_old_and_the_new_keys_must_sign(ours: Repository) -> None:
    change = {"previous": ours.first, "root_threshold": 2}
    new = (ours.root[1], ours.root[2])
    refused(ours.first, made(new, ours.bundles, by=new, **change), "signed by 1 of the present root's root keys")
    refused(ours.first, made(new, ours.bundles, by=ours.root[:2], **change), "signed by 1 of its own root keys")
    next_root(ours.first, text(made(new, ours.bundles, by=ours.root, **change)), "it")


def test_one_key_counts_once(ours: Repository) -> None:
    """The same signature twice, or the same key under two names, is one signer."""
    second = made(ours.root[:2], ours.bundles, ours.first, by=ours.root[:1], root_threshold=2)
    (one,) = second.signatures
    twice = dataclasses.replace(second, signatures=(one, RootSignature("f" * 64, one.sig)))
    refused(ours.first, twice, "signed by 1 of")
    role = second.signed.roles["root"]
    name = ours.root[0].public.id
    signed = dataclasses.replace(
        second.signed,
        keys={**second.signed.keys, "alias": second.signed.keys[name]},
        roles={**second.signed.roles, "root": dataclasses.replace(role, keyids=(name, "alias"))},
    )
    alias = sign_root(SignedRoot((), signed), ours.root[:1])
    refused(ours.first, alias, "signed by 1 of its own root keys, and 2 are needed")


def test_a_threshold_of_zero_or_above_the_keys_is_no_root(ours: Repository) -> None:
    for threshold in (0, -1, 3):
        role = dataclasses.replace(ours.first.signed.roles["targets"], threshold=threshold)
        signed = dataclasses.replace(ours.first.signed, roles={**ours.first.signed.roles, "targets": role})
        with pytest.raises(TrustError, match="its role targets needs"):
            parse_root(text(sign_root(SignedRoot((), signed), ours.root)), "it")
    with pytest.raises(ConfigError, match="needs 3 of 1 keys"):
        made(ours.root[:2], ours.bundles[:1], bundle_threshold=3)


@pytest.mark.parametrize(
    ("key", "value"),
    [("_type", "targets"), ("spec_version", "2.0"), ("version", 0), ("expires", "soon"), ("roles", {}), ("keys", {})],
)
def test_another_document_is_no_root(ours: Repository, key: str, value: Any) -> None:
    signed = {**documents.encode(ours.first.signed), key: value}
    with pytest.raises(TrustError):
        parse_root(documents.to_json({"signatures": [], "signed": signed}).encode(), "it")


def test_every_changed_character_of_a_root_is_refused(ours: Repository) -> None:
    whole = text(ours.first)
    accepted = []
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 1
        try:
            found = parse_root(bytes(changed), "it")
        except TrustError:
            continue
        accepted.append(found.signed)
    assert all(signed == ours.first.signed for signed in accepted), "only what nobody signs may differ: a key's hint"
