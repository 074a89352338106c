"""The member that holds all signatures: its lines, their one form, and how many there may be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fuzz_damage import assemble, members_of
from hostile_signed import judge
from sigstore_double import Sigstore
from small_bundles import small_bundle
from trust_cases import device, new_key, signed_bundle

from edgepack.bundle.archive import SIGNATURE_LIMIT_BYTES, open_bundle
from edgepack.bundle.layout import SIGNATURE
from edgepack.errors import ConfigError, TrustError
from edgepack.trust.keyless.bundle import from_file
from edgepack.trust.member import Signatures, from_bytes, to_bytes
from edgepack.trust.policy import VARIABLE
from edgepack.trust.sign import sign

SIGSTORE = Sigstore()


def keyless(payload: bytes) -> Any:
    return from_file(json.dumps(SIGSTORE.signed(payload)).encode(), "x")


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A bundle that a key and two identities have signed."""
    path = small_bundle(tmp_path)
    signatures = tuple(SIGSTORE.sign_bundle(path, tmp_path / f"{i}.json") for i in range(2))
    sign(path, (new_key(tmp_path, "one"),), attached=signatures)
    return path


def test_signatures_by_keys_and_without_stand_in_lines(both: Path) -> None:
    text = open_bundle(both).signature or b""
    found = from_bytes(text, "x")
    assert found.envelope is not None
    assert len(found.keyless) == 2
    assert text.count(b"\n") == 3
    assert to_bytes(found) == text
    assert all(json.loads(line)["mediaType"].endswith("v0.3+json") for line in text.splitlines())
    only = to_bytes(dataclasses.replace(found, envelope=None))
    assert from_bytes(only, "x") == Signatures(None, found.keyless)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.rstrip(b"\n"),
        lambda text: text + b"\n",
        lambda text: b"\n" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text + b"{}\n",
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: b"".join(reversed(text.splitlines(keepends=True))),
        lambda text: text + text.splitlines(keepends=True)[0],
        lambda text: text.replace(b'"tlogEntries":[{', b'"tlogEntries": [{', 1),
        lambda text: text + b"x" * 100 + b"\n",
        lambda text: text + b"{}\n" * 20,
    ],
)
def test_any_other_form_is_refused(both: Path, damage: Any) -> None:
    with pytest.raises(TrustError):
        from_bytes(damage(open_bundle(both).signature), "x")


def test_there_are_at_most_16_and_each_is_once() -> None:
    many = tuple(keyless(b"%d" % i) for i in range(17))
    assert len(from_bytes(to_bytes(Signatures(None, many[:16])), "x").keyless) == 16
    for too_many in (many, (many[0], many[0])):
        with pytest.raises(ConfigError, match="at most 16 keyless signatures, each once"):
            to_bytes(Signatures(None, too_many))
    large = tuple(keyless(b"%d" % i + b"x" * (SIGNATURE_LIMIT_BYTES // 8)) for i in range(8))
    with pytest.raises(ConfigError, match="at most 1048576 are read"):
        to_bytes(Signatures(None, large))


def test_lines_of_two_signed_bundles_cannot_be_mixed(both: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Whichever lines of another bundle stand in one, it is refused by who trusts both signers."""
    root = tmp_path / "etc" / "trusted_root.json"
    root.parent.mkdir()
    root.write_text(json.dumps(SIGSTORE.trusted_root()))
    key = new_key(tmp_path, "two")
    who = [{"identity": "me@example.com", "issuer": "https://accounts.example.com"}]
    policy = device(root.parent, key, sigstore=root.name, identities=who, threshold=2, keys="keys")
    monkeypatch.setenv(VARIABLE, str(policy))
    made = []
    for i in range(2):
        path = signed_bundle(tmp_path / str(i), key, channels=2 + i)
        sign(path, (), attached=(SIGSTORE.sign_bundle(path, tmp_path / "x.json"),))
        made.append(path.read_bytes())
    (first, second) = (members_of(data)[SIGNATURE].splitlines(keepends=True) for data in made)
    taken = {}
    for name, lines in {
        "own": first, "all of another": second, "one of another": [first[0], second[1]],
        "other first": [second[0], first[1]], "less": first[:1], "more": [*first, second[1]],
    }.items():  # fmt: skip
        data = assemble({**members_of(made[0]), SIGNATURE: b"".join(lines)})
        taken[name] = judge(data, tmp_path / "x.edgepack")
    assert taken.pop("own") == "activated"
    assert taken.pop("more") == "activated", "an identity counts once, by the first line that it has"
    assert set(taken.values()) == {"refused"}
