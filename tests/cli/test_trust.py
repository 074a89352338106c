"""``edgepack keygen | sign | policy | root`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import main
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for name in ("one", "two", "root"):
        assert main(["keygen", name, "--out", str(tmp_path)]) == 0
    assert "keep it secret" in capsys.readouterr().out
    return tmp_path


def test_a_bundle_is_signed_in_its_place(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_bundle(keys)
    assert main(["sign", str(path), "--key", str(keys / "one.key.pem"), "--expires", "30d", "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["sha256"] == open_bundle(path).sha256
    assert said["signed"]["expires"] > said["signed"]["signed_at"]
    assert "until" in captured.err
    assert main(["sign", str(path), "-k", str(keys / "two.key.pem"), "-o", str(keys / "both.edgepack")]) == 0
    assert open_bundle(path).sha256 == said["sha256"]
    assert open_bundle(keys / "both.edgepack").signature is not None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["keygen", "../x"], 2, "is not a valid name"),
        (["keygen", "one"], 1, "already exists"),
        (["sign", "small.edgepack"], 2, "--key"),
        (["sign", "small.edgepack", "-k", "one.pub.pem"], 2, "not a private key"),
        (["sign", "nothing.edgepack", "-k", "one.key.pem"], 2, "there is no file"),
        (["sign", "small.edgepack", "-k", "one.key.pem", "--expires", "soon"], 2, "is not a date"),
        (["sign", "small.edgepack", "-k", "one.key.pem", "--expires", "2020-01-01"], 2, "out of date at once"),
        (["sign", "small.edgepack", "-k", "one.key.pem", "--verification", "none"], 2, "cannot be read"),
        (["policy", "nothing.edgepack"], 2, "there is no file"),
        (["root", "take", "root.json"], 2, "names 0 roots of trust"),
        (["root", "take", "none", "--into", "root.json"], 2, "cannot be read"),
        (["root", "make", "--root-key", "one.key.pem", "--bundle-key", "two.pub.pem", "--expires", "9d", "-k",
          "one.key.pem", "-o", "x"], 2, "holds a private key"),
    ],
)  # fmt: skip
def test_mistakes_are_said(
    keys: Path,
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_bundle(keys)
    monkeypatch.chdir(keys)
    assert main(words) == code
    err = capsys.readouterr().err
    assert said in err
    assert "hint:" in err


def test_a_passphrase_is_asked_for_and_then_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(small_bundle(tmp_path))
    monkeypatch.setenv("EDGEPACK_KEY_PASSPHRASE", "words")
    assert main(["keygen", "locked", "--encrypt", "-o", str(tmp_path)]) == 0
    words = ["sign", path, "-k", str(tmp_path / "locked.key.pem")]
    assert main(words) == 0
    monkeypatch.delenv("EDGEPACK_KEY_PASSPHRASE")
    assert main(words) == 2
    assert "EDGEPACK_KEY_PASSPHRASE" in capsys.readouterr().err


def test_a_root_of_trust_by_several_hands(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(out: str, *more: str) -> int:
        words = ["root", "make", "--root-key", "root.pub.pem", "--root-key", "two.pub.pem", "--root-threshold", "2"]
        words += ["--bundle-key", "one.pub.pem", "--expires", "100d", "--key", "root.key.pem", "--out", out, *more]
        return main([str(keys / word) if word.endswith((".pem", ".json")) else word for word in words])

    assert make("root.json") == 0
    assert main(["root", "take", str(keys / "root.json"), "--into", str(keys / "root.json")]) == 5
    assert "signed by 1 of its own root keys, and 2 are needed" in capsys.readouterr().err
    assert main(["root", "sign", str(keys / "root.json"), "-k", str(keys / "two.key.pem")]) == 0
    assert make("2.json", "--previous", "root.json") == 0
    assert main(["root", "sign", str(keys / "2.json"), "-k", str(keys / "two.key.pem")]) == 0
    assert main(["root", "take", str(keys / "2.json"), "--into", str(keys / "root.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 3)[-1])["signed"]["version"] == 2


def test_what_was_built_here_may_still_run_when_it_is_signed(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepack.runtime.native import may_run_native, note_built

    monkeypatch.setenv("EDGEPACK_CACHE", str(keys / "cache"))
    path = small_bundle(keys)
    for built in (False, True):
        if built:
            note_built(open_bundle(path).sha256)
        assert main(["sign", str(path), "-k", str(keys / "one.key.pem"), "--replace"]) == 0
        assert may_run_native(open_bundle(path)) is built
