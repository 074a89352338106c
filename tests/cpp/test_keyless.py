"""Keyless signatures: what the C++ loader passes over, as Python does, and the policies that it leaves to Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cpp_library import Library
from cpp_policy import both
from fuzz_damage import assemble, members_of
from sigstore_double import Sigstore
from small_bundles import small_bundle
from trust_cases import device, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.layout import SIGNATURE
from edgepack.trust.keys import PrivateKey
from edgepack.trust.policy import VARIABLE
from edgepack.trust.sign import sign

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("engines")]


def test_keyless_signatures_beside_a_key_s_are_passed_over(
    library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(device(tmp_path / "etc", keys[0])))
    sigstore = Sigstore()
    with_key, without = signed_bundle(tmp_path / "1", keys[0]), small_bundle(tmp_path / "2")
    for path in (with_key, without):
        sign(path, (), attached=tuple(sigstore.sign_bundle(path, tmp_path / f"{i}.json") for i in range(2)))
    assert both(library, with_key) == (None, None)
    python, cpp = both(library, without)
    assert cpp is not None
    assert cpp == python
    assert "by none of the keys" in cpp.message
    text = open_bundle(with_key).signature or b""
    lines = text.splitlines(keepends=True)
    for damaged in (
        text.rstrip(b"\n"), text + b"\n", text + b"{}\n", text + b"x\n", text + lines[1], lines[1] + lines[0],
        text.replace(b'"certificate"', b'"Certificate"', 1), b"\n" + text, text + b"{}\n" * 20,
    ):  # fmt: skip
        made = tmp_path / "damaged.edgepack"
        made.write_bytes(assemble({**members_of(with_key.read_bytes()), SIGNATURE: damaged}))
        python, cpp = both(library, made)
        assert cpp is not None
        assert python is not None
        assert (cpp.kind, cpp.message) == (python.kind, python.message), damaged[-200:]  # hints of near names: Python's


def test_a_policy_that_names_identities_is_refused_by_name(
    library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = [{"identity": "me@example.com", "issuer": "https://accounts.example.com"}]
    policy = device(tmp_path, keys[0], keys="keys", sigstore="trusted_root.json", identities=who)
    (tmp_path / "trusted_root.json").write_text(json.dumps(Sigstore().trusted_root()))
    monkeypatch.setenv(VARIABLE, str(policy))
    python, cpp = both(library, signed)
    assert python is None
    assert cpp is not None
    assert "keyless signatures are checked by edgepack in Python alone, not by libedgepack" in cpp.message
