"""A device's policy holds for the C++ loader as for Python's: what it lets in, and the words of what it refuses."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cpp_library import Library, Refused
from hostile_signed import mutation, splice
from small_bundles import small_bundle
from trust_cases import device, new_key, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.errors import EdgepackError
from edgepack.trust.keys import PrivateKey
from edgepack.trust.policy import VARIABLE, admit

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("engines")]
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateKey, ...]:
    folder = tmp_path_factory.mktemp("keys")
    return tuple(new_key(folder, name) for name in ("one", "two", "stranger"))


@pytest.fixture(scope="module")
def signed(keys: tuple[PrivateKey, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signed_bundle(tmp_path_factory.mktemp("signed"), *keys[:2])


def both(library: Library, path: Path) -> tuple[Refused | None, Refused | None]:
    """Return what Python and what C++ say of a bundle under the policy of this device."""
    try:
        admit(open_bundle(path))
        python = None
    except EdgepackError as error:
        python = Refused(type(error).__name__, error.message, error.hint)
    try:
        with library.load(path):
            cpp = None
    except Refused as refused:
        cpp = refused
    return python, cpp


POLICIES: tuple[tuple[dict[str, Any], bool], ...] = (
    ({}, True),
    ({"threshold": 2}, True),
    ({"threshold": 3}, False),
    ({"models": ["small"], "targets": ["test-board"], "engines": ["onnxruntime"], "lowest": {"small": "1"}}, True),
    ({"models": ["large"]}, False),
    ({"targets": ["a", "b"]}, False),
    ({"engines": ["openvino"]}, False),
    ({"lowest": {"small": "1.0.1"}}, False),
    ({"max_age_days": 2}, True),
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


@pytest.mark.parametrize("damage", ["writable", "text", "private", "root"])
def test_a_policy_that_is_not_to_be_believed(
    damage: str, library: Library, signed: Path, keys: tuple[PrivateKey, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = device(tmp_path / "etc", keys[0], **({"root": "root.json"} if damage == "root" else {}))
    if damage == "writable":
        path.chmod(0o666)
    elif damage == "text":
        path.write_text("{")
    elif damage == "private":
        (path.parent / "keys" / "x.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    monkeypatch.setenv(VARIABLE, str(path))
    python, cpp = both(library, signed)
    assert python is not None
    assert cpp is not None
    if damage == "root":
        assert cpp.kind == "TrustError"
        assert "libedgepack reads none" in cpp.message
    else:
        assert cpp == python


def test_no_mutation_and_no_splice_is_taken(library: Library, keys: tuple[PrivateKey, ...], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, str(device(tmp_path / "etc", *keys[:2], threshold=2)))
    good = [
        signed_bundle(tmp_path / str(i), *keys[:2], channels=2 + i // 2, version=str(1 + i % 2)).read_bytes()
        for i in range(4)
    ]
    path = tmp_path / "x.edgepack"
    for data in good:
        path.write_bytes(data)
        assert both(library, path) == (None, None)
    for seed in range(400):
        path.write_bytes(mutation(good[0], seed) if seed < 300 else splice(good, seed))
        python, cpp = both(library, path)
        assert python is not None
        assert cpp is not None, f"seed {seed} was taken"
        assert cpp.kind == python.kind, f"seed {seed}"
        assert os.fspath(path) in cpp.message
