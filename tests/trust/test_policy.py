"""What a device takes and what it refuses, by its policy; every command that runs a bundle obeys it."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fuzz_damage import assemble, members_of
from program import main
from small_bundles import small_bundle
from trust_cases import device, new_key, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.layout import SIGNATURE
from edgepack.errors import ConfigError, EdgepackError, StorageError, ToolchainError, TrustError
from edgepack.runtime.install import install, rollback
from edgepack.runtime.load import load
from edgepack.runtime.root import status
from edgepack.specs.bundle import Payload
from edgepack.trust import policy as policies
from edgepack.trust.policy import admit
from edgepack.trust.root import make_root, sign_root, write_root


@pytest.fixture
def obey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(*trusted: Any, **policy: Any) -> Path:
        path = device(tmp_path / "etc", *trusted, **policy)
        monkeypatch.setenv(policies.VARIABLE, str(path))
        return path

    return write


def refused(path: Path, words: str, kind: type[EdgepackError] = TrustError, **options: Any) -> None:
    with pytest.raises(kind, match=words) as caught:
        admit(open_bundle(path), **options)
    assert caught.value.hint


# --- signatures -------------------------------------------------------------------------------------------------------


def test_without_a_policy_every_whole_bundle_is_taken(tmp_path: Path) -> None:
    assert admit(open_bundle(small_bundle(tmp_path))) == policies.Admission()


def test_a_trusted_signature_lets_a_bundle_in(tmp_path: Path, obey: Any) -> None:
    key = new_key(tmp_path, "release")
    obey(key)
    found = admit(open_bundle(signed_bundle(tmp_path, key)))
    assert found.signers == (f"release {key.public.id[:16]}",)
    assert found.signed is not None


def test_what_is_not_signed_by_a_trusted_key_is_refused(tmp_path: Path, obey: Any) -> None:
    key, other = new_key(tmp_path, "release"), new_key(tmp_path, "other")
    obey(key)
    refused(small_bundle(tmp_path / "plain"), "is not signed")
    refused(signed_bundle(tmp_path / "other", other), "by none of the keys that this device trusts, and 1 must")
    signed = signed_bundle(tmp_path / "one", key)
    stripped = members_of(signed.read_bytes())
    del stripped[SIGNATURE]
    path = tmp_path / "stripped.edgepack"
    path.write_bytes(assemble(stripped))
    refused(path, "is not signed")


def test_a_device_that_trusts_nobody_takes_nothing(tmp_path: Path, obey: Any) -> None:
    key = new_key(tmp_path, "release")
    obey()
    refused(signed_bundle(tmp_path, key), "by none of the keys")


def test_as_many_keys_as_the_policy_says_must_sign(tmp_path: Path, obey: Any) -> None:
    one, two, three = (new_key(tmp_path, name) for name in ("one", "two", "three"))
    obey(one, two, threshold=2)
    refused(signed_bundle(tmp_path / "a", one, three), r"by 1 of the keys that this device trusts \(one\), and 2")
    assert len(admit(open_bundle(signed_bundle(tmp_path / "b", one, two, three))).signers) == 2


def test_a_signature_of_another_bundle_is_refused(tmp_path: Path, obey: Any) -> None:
    key = new_key(tmp_path, "release")
    obey(key)
    one, two = signed_bundle(tmp_path / "1", key), signed_bundle(tmp_path / "2", key, version="2")
    path = tmp_path / "spliced.edgepack"
    path.write_bytes(assemble({**members_of(one.read_bytes()), SIGNATURE: members_of(two.read_bytes())[SIGNATURE]}))
    refused(path, "covers other files: 'manifest.json' is another")


# --- which bundles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"models": ["other"]}, "the model small is not one of this device's"),
        ({"targets": ["raspberry-pi-5"]}, "it is for test-board, and this device is raspberry-pi-5"),
        ({"engines": ["openvino"]}, "it has a payload for onnxruntime, and this device runs openvino only"),
        ({"lowest": {"small": "1.1"}}, "version 1.0 of small is lower than 1.1"),
        ({"lowest": {"small": "1.0.1"}}, "version 1.0 of small is lower than 1.0.1"),
    ],
)
@pytest.mark.parametrize("sign", [True, False])
def test_a_bundle_for_another_device_is_refused_even_when_it_is_well_signed(
    tmp_path: Path, obey: Any, asked: dict[str, Any], words: str, sign: bool
) -> None:
    key = new_key(tmp_path, "release")
    path = signed_bundle(tmp_path, key)
    obey(key, require_signature=sign, **asked)
    refused(path, words)
    refused(path, words, new=False)
    obey(key, require_signature=sign, models=["small"], targets=["test-board"], engines=["onnxruntime"],
         lowest={"small": "1", "other": "9"})  # fmt: skip
    admit(open_bundle(path))


def test_native_code_is_refused_or_allowed_by_policy(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key(tmp_path, "release")
    path = open_bundle(signed_bundle(tmp_path, key))
    obey(key, native="allowed")
    assert admit(path).native is True
    obey(key, native="refused")
    assert admit(path).native is False, "it holds data"
    monkeypatch.setattr(policies, "is_native", lambda _payload: True)
    with pytest.raises(TrustError, match="native code, which this device does not run"):
        admit(path)


def test_the_policy_goes_before_who_allows_native_code(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack.runtime import load as loading

    asked: list[Payload] = []
    monkeypatch.setattr(loading, "may_run_native", lambda *_: pytest.fail("the settings were asked"))
    monkeypatch.setattr(loading, "is_native", lambda payload: bool(asked.append(payload)) or True)
    key = new_key(tmp_path, "release")
    path = signed_bundle(tmp_path, key)
    obey(key, native="allowed")
    load(path).close()
    assert asked


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_signature_ends(tmp_path: Path, obey: Any) -> None:
    key, now = new_key(tmp_path, "release"), datetime.now(UTC)
    obey(key)
    path = signed_bundle(tmp_path, key, expires=now.replace(microsecond=0) + timedelta(days=30))
    admit(open_bundle(path), now=now + timedelta(days=29))
    refused(path, "out of date since", now=now + timedelta(days=30))
    admit(open_bundle(path), now=now + timedelta(days=300), new=False)


def test_a_signature_may_be_too_old(tmp_path: Path, obey: Any) -> None:
    key, now = new_key(tmp_path, "release"), datetime.now(UTC)
    path = signed_bundle(tmp_path, key)
    obey(key, max_age_days=7)
    admit(open_bundle(path), now=now + timedelta(days=6))
    refused(path, "more than 7 days ago", now=now + timedelta(days=8))


def test_a_clock_that_is_behind_is_said(tmp_path: Path, obey: Any) -> None:
    """A board without a battery starts in 1970, where nothing is ever out of date."""
    key = new_key(tmp_path, "release")
    path = signed_bundle(tmp_path, key)
    start = datetime(1970, 1, 1, tzinfo=UTC)
    obey(key)
    admit(open_bundle(path), now=start)
    obey(key, max_age_days=7)
    refused(path, "this machine's clock says 1970-01-01", now=start)


# --- a root of trust --------------------------------------------------------------------------------------------------


def test_a_root_of_trust_says_who_signs_and_revokes_keys(tmp_path: Path, obey: Any) -> None:
    root, old, new = (new_key(tmp_path, name) for name in ("root", "old", "new"))
    later = datetime.now(UTC) + timedelta(days=100)
    first = sign_root(make_root((root.public,), (old.public,), later), [root])
    policy = obey(new, root="root.json")
    write_root(first, policy.parent / "root.json")
    path = signed_bundle(tmp_path / "old", old)
    assert len(admit(open_bundle(path)).signers) == 1
    refused(signed_bundle(tmp_path / "new", new), "by none of the keys")  # the folder counts no more
    second = sign_root(make_root((root.public,), (new.public,), later, first), [root])
    write_root(second, tmp_path / "2.json")
    assert main(["root", "take", str(tmp_path / "2.json")]) == 0
    refused(path, "by none of the keys")
    refused(path, "by none of the keys", new=False)
    admit(open_bundle(tmp_path / "new" / "small.edgepack"))
    assert main(["root", "take", str(tmp_path / "2.json")]) == 5
    refused(tmp_path / "new" / "small.edgepack", "the root of trust of this device, version 2, has been out of date",
            now=later + timedelta(days=1))  # fmt: skip
    admit(open_bundle(tmp_path / "new" / "small.edgepack"), now=later + timedelta(days=1), new=False)


def test_as_many_keys_as_the_root_says_must_sign(tmp_path: Path, obey: Any) -> None:
    root, one, two = (new_key(tmp_path, name) for name in ("root", "one", "two"))
    policy = obey(root="root.json")
    later = datetime.now(UTC) + timedelta(days=100)
    made = make_root((root.public,), (one.public, two.public), later, bundle_threshold=2)
    write_root(sign_root(made, [root]), policy.parent / "root.json")
    refused(signed_bundle(tmp_path / "1", one), "and 2 must have signed it")
    admit(open_bundle(signed_bundle(tmp_path / "2", one, two)))
    (policy.parent / "root.json").unlink()
    refused(tmp_path / "2" / "small.edgepack", "root of trust .* cannot be read", ConfigError)


# --- the policy itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"format": 2}', '{"format": 1, "require_signatures": true}', '{"format": 1, "threshold": 0}',
        '{"format": 1, "native": "allowed"}', '{"format": 1, "root": "root.json"}', '{"format": 1, "max_age_days": 3}',
        '{"format": 1, "threshold": 2}', '{"format": 1, "require_signature": "yes"}',
        '{"format": 1, "require_signature": true, "max_age_days": 0}',
        '{"format": 1, "require_signature": true, "max_age_days": 36501}',
        '{"format": 1, "require_signature": true, "max_age_days": 100000000000000000000}',
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_meant_refuses_everything(tmp_path: Path, obey: Any, text: str) -> None:
    path = small_bundle(tmp_path)
    obey().write_text(text)
    refused(path, "policy.json", ConfigError)


@pytest.mark.parametrize("version", ["v2", "latest", "", "\u0662.0", "-1"])
def test_a_lowest_version_without_a_number_is_refused_as_no_version_would_be_lower(
    tmp_path: Path, obey: Any, version: str
) -> None:
    path = small_bundle(tmp_path)
    obey(require_signature=False, lowest={"small": version})
    refused(path, "does not begin with a number", ConfigError)


def test_the_oldest_signature_that_a_policy_may_allow_is_reckoned(tmp_path: Path, obey: Any) -> None:
    key = new_key(tmp_path, "release")
    path = signed_bundle(tmp_path, key)
    obey(key, max_age_days=policies.MOST_AGE_DAYS)
    admit(open_bundle(path))


def test_a_policy_that_cannot_be_found_or_believed_refuses_everything(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_bundle(tmp_path)
    place = obey(require_signature=False)
    admit(open_bundle(path))
    place.chmod(0o666)
    refused(path, "writable by other users", StorageError)
    place.unlink()
    refused(path, "cannot be read", ConfigError)
    monkeypatch.delenv(policies.VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "edgepack").mkdir(parents=True)
    admit(open_bundle(path))
    (tmp_path / "home" / "edgepack" / "policy.json").symlink_to(tmp_path / "nowhere")
    refused(path, "cannot be read", ConfigError)


def test_a_user_adds_to_the_systems_policy_and_takes_nothing_away(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key(tmp_path, "release")
    plain, signed = small_bundle(tmp_path / "plain"), signed_bundle(tmp_path / "signed", key)
    monkeypatch.setattr(policies, "SYSTEM_POLICY", device(tmp_path / "system", key))
    obey(require_signature=False)
    refused(plain, "is not signed")
    admit(open_bundle(signed))
    obey(require_signature=False, models=["other"])
    refused(signed, "is not one of this device's")
    monkeypatch.delenv(policies.VARIABLE)
    refused(plain, "is not signed")


def test_without_cryptography_a_signature_that_is_required_is_a_refusal(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key(tmp_path, "release")
    path = signed_bundle(tmp_path, key)
    obey(key)
    for name in list(sys.modules):
        if name.partition(".")[0] == "cryptography":
            monkeypatch.setitem(sys.modules, name, None)
    refused(path, "cannot be made or checked here", ToolchainError)
    with pytest.raises(ToolchainError):
        load(path)
    obey(key, require_signature=False)
    admit(open_bundle(path))


# --- who obeys --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_command_that_runs_a_bundle_obeys(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No engine sees a byte: what would load one is not reached."""
    import numpy as np

    from edgepack.runtime import load as loading

    obey(new_key(tmp_path, "release"))
    monkeypatch.setattr(loading, "unpack", lambda *_: pytest.fail("it was unpacked"))
    path = str(small_bundle(tmp_path))
    np.savez(tmp_path / "in.npz", image=np.zeros((1, 3, 8, 8), np.float32))
    for words in (
        ["verify", path], ["run", path, "--input", str(tmp_path / "in.npz")],
        ["benchmark", path, "--duration", "1s"], ["compare", path, path],
        ["tune", path], ["install", path, "--root", str(tmp_path / "root")],
        ["inspect", "--layers", path], ["policy", path],
    ):  # fmt: skip
        assert main(words) == 5, words
        assert "is not signed" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()
    with pytest.raises(TrustError):
        load(Path(path))


@pytest.mark.slow
def test_an_installation_says_who_signed_and_runs_on_when_the_time_is_over(
    tmp_path: Path, obey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, root = new_key(tmp_path, "release"), tmp_path / "root"
    obey(key)
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    first = install(signed_bundle(tmp_path / "1", key, expires=soon), root)
    assert first.signers == (f"release {key.public.id[:16]}",)
    assert status(root).current == first
    install(signed_bundle(tmp_path / "2", key, version="2", expires=soon), root)
    monkeypatch.setattr(policies, "_now", lambda: soon + timedelta(days=1))
    load(root / "current" / "small.edgepack").close()
    with pytest.raises(TrustError, match="out of date"):
        load(Path(shutil.copy(root / "current" / "small.edgepack", tmp_path)))
    assert rollback(root).id == first.id


@pytest.mark.slow
def test_a_rollback_does_not_bring_back_what_the_policy_refuses(tmp_path: Path, obey: Any) -> None:
    key, root = new_key(tmp_path, "release"), tmp_path / "root"
    obey(key)
    install(signed_bundle(tmp_path / "1", key), root)
    second = install(signed_bundle(tmp_path / "2", key, version="2"), root)
    obey(key, lowest={"small": "2"})
    with pytest.raises(TrustError, match=r"version 1\.0 of small is lower than 2"):
        rollback(root)
    assert status(root).current == second


def test_what_is_asked_and_why_it_is_taken_is_shown(
    tmp_path: Path, obey: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key(tmp_path, "release")
    assert main(["policy"]) == 0
    assert "no policy" in capsys.readouterr().out
    obey(key, targets=["test-board"], lowest={"small": "1"}, max_age_days=9, native="allowed")
    assert main(["policy"]) == 0
    said = capsys.readouterr().out
    for words in (
        f"signed by 1 of 1 keys (keys): release {key.public.id[:16]}",
        "small: 1 and newer",
        "at most 9 days",
    ):
        assert words in said
    path = signed_bundle(tmp_path, key)
    assert main(["policy", str(path), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["signers"] == [f"release {key.public.id[:16]}"]
    assert "accepted" in captured.err
