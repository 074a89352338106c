"""Signed results: no figure of one can be changed, and whose signature it is decides."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import made_up
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust_cases import new_key

from edgepack.base import documents
from edgepack.errors import ConfigError, StorageError
from edgepack.report.entries.read import read_results
from edgepack.specs.result import Result
from edgepack.trust.attest import KEY, attest, device_key, signer


def signed(folder: Path, name: str = "board") -> tuple[Result, Any]:
    key = new_key(folder, name)
    return attest(made_up.result(), key), key.public


def test_the_key_that_signed_is_found_again_whatever_the_form(tmp_path: Path) -> None:
    found, key = signed(tmp_path)
    assert found.attestation is not None
    written = json.loads(documents.to_json(found))
    shuffled = dict(sorted(written.items(), reverse=True))
    for document in (written, shuffled, json.loads(json.dumps(written, indent=7))):
        assert signer(document, found.attestation, [key]) == key
    assert documents.from_json(Result, documents.to_json(found), "x") == found
    assert signer(written, found.attestation, [new_key(tmp_path, "other").public]) is None
    again = attest(found, new_key(tmp_path, "third"))
    assert again.attestation is not None
    assert again.attestation.keyid != key.id


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        return [place]
    return [found for key, item in inner for found in leaves(item, (*place, key))] or [place]


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_value_is_seen_wherever_it_is(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    found, key = signed(tmp_path_factory.mktemp("keys"))
    assert found.attestation is not None
    written = json.loads(documents.to_json(found))
    del written["attestation"]
    *path, last = data.draw(st.sampled_from(leaves(written)))
    holder = written
    for step in path:
        holder = holder[step]
    before = holder[last]
    holder[last] = data.draw(
        st.sampled_from([0, 1.5, "x", None, True, []]).filter(lambda new: repr(new) != repr(before))
    )
    with pytest.raises(ConfigError, match="not what board signed"):
        signer(written, found.attestation, [key])


@pytest.mark.parametrize("signature", ["", "?", "AAAA", "MEUCIQ=="])
def test_what_is_no_signature_is_none(tmp_path: Path, signature: str) -> None:
    found, key = signed(tmp_path)
    assert found.attestation is not None
    wrong = dataclasses.replace(found.attestation, signature=signature)
    with pytest.raises(ConfigError, match="not what board signed"):
        signer(json.loads(documents.to_json(found)), wrong, [key])


def test_a_report_says_which_results_are_attested(tmp_path: Path) -> None:
    found, key = signed(tmp_path)
    other, _ = signed(tmp_path, "stranger")
    (tmp_path / "results").mkdir()
    text = documents.to_json(found)
    claims = dataclasses.replace(other.attestation, verdict="signed by board", trusted=True)  # type: ignore[type-var]
    for name, content in (
        ("a", text),
        ("b", text.replace(f'"queries": {found.queries}', f'"queries": {found.queries + 1}')),
        ("c", documents.to_json(dataclasses.replace(other, bundle_name="third", attestation=claims))),
        ("d", documents.to_json(made_up.result(bundle_name="fourth"))),
    ):
        (tmp_path / "results" / f"{name}.json").write_text(content)
    results, _ = read_results([tmp_path / "results"], [key])
    verdicts = [(each.attestation.verdict, each.attestation.trusted) if each.attestation else None for each in results]
    assert verdicts == [
        (f"signed by board {key.id[:16]}", True),
        ("the signature is wrong: it is not what board signed", False),
        (f"signed by {claims.keyid[:16]}, a key that is not trusted here", False),
        None,
    ]


def test_the_device_s_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert device_key() is None
    key = new_key(tmp_path, "board")
    (tmp_path / "edgepack").mkdir()
    place = tmp_path / "edgepack" / KEY
    place.write_bytes((tmp_path / "private" / "board.key.pem").read_bytes())
    place.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by other users"):
        device_key()
    place.chmod(0o600)
    found = device_key()
    assert found is not None
    assert found.public.pem == key.public.pem
    place.chmod(0o620)
    with pytest.raises(StorageError, match="writable by other users"):
        device_key()
