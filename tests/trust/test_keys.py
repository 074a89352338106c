"""Keys: one kind, files that nobody else reads or writes, and an id that OpenSSF's model signing has too."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest
from trust_cases import issue

from edgepack.errors import ConfigError, StorageError, ToolchainError
from edgepack.trust import keys
from edgepack.trust.keys import is_signed_by, make_key, read_folder, read_private, read_public


def test_a_key_signs_and_its_public_part_checks(tmp_path: Path) -> None:
    key = make_key("release", tmp_path)
    signature = key.sign(b"message")
    public = read_public(tmp_path / "release.pub.pem")
    assert public == key.public
    assert is_signed_by(public, signature, b"message")
    assert not is_signed_by(public, signature, b"massage")
    assert not is_signed_by(public, b"", b"message")
    assert not is_signed_by(make_key("other", tmp_path).public, signature, b"message")


def test_the_same_message_gives_the_same_signature(tmp_path: Path) -> None:
    key = make_key("release", tmp_path)
    assert key.sign(b"message") == read_private(tmp_path / "release.key.pem").sign(b"message")


def test_the_id_is_the_digest_of_the_public_pem(tmp_path: Path) -> None:
    key = make_key("release", tmp_path)
    assert key.public.id == hashlib.sha256((tmp_path / "release.pub.pem").read_bytes()).hexdigest()


def test_the_private_file_is_this_users_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    make_key("release", tmp_path)
    before = (tmp_path / "release.key.pem").read_bytes()
    assert stat.S_IMODE((tmp_path / "release.key.pem").stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="already exists"):
        make_key("release", tmp_path)
    assert (tmp_path / "release.key.pem").read_bytes() == before


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    key = make_key("release", tmp_path, b"words")
    path = tmp_path / "release.key.pem"
    assert b"ENCRYPTED" in path.read_bytes()
    assert read_private(path, b"words").public == key.public
    for wrong in (None, b"other"):
        with pytest.raises(ConfigError, match="not a private key"):
            read_private(path, wrong)


def test_a_private_key_is_not_shown(tmp_path: Path) -> None:
    assert "PRIVATE" not in repr(make_key("release", tmp_path))


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "secp384r1"])
def test_other_kinds_of_keys_are_refused(tmp_path: Path, kind: str) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    made = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    pem = serialization.Encoding.PEM
    private = made.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = made.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "a.key.pem").write_bytes(private)
    (tmp_path / "a.pub.pem").write_bytes(public)
    with pytest.raises(ConfigError, match="not an ECDSA key on P-256"):
        read_private(tmp_path / "a.key.pem")
    with pytest.raises(ConfigError, match="not an ECDSA key on P-256"):
        read_public(tmp_path / "a.pub.pem")


@pytest.mark.parametrize(
    "text", [b"", b"words", b"\0" * 100, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_is_no_key_is_said(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="not a public key"):
        read_public(path)
    with pytest.raises(ConfigError, match="not a private key"):
        read_private(path)


def test_a_private_key_among_the_trusted_ones_is_said(tmp_path: Path) -> None:
    make_key("release", tmp_path)
    with pytest.raises(ConfigError, match="holds a private key"):
        read_folder(tmp_path)
    with pytest.raises(ConfigError, match="there is no file"):
        read_public(tmp_path / "nothing.pem")
    os.mkfifo(tmp_path / "pipe.pem")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_public(tmp_path / "pipe.pem")


@pytest.mark.parametrize("what", ["public key", "certificate"])
def test_what_does_not_sign_is_named(tmp_path: Path, what: str) -> None:
    make_key("release", tmp_path)
    path = tmp_path / "release.pub.pem"
    if what == "certificate":
        path.write_bytes(issue("release").pem())
    with pytest.raises(ConfigError, match=f"is not a private key but a {what}") as caught:
        read_private(path)
    assert "NAME.key.pem" in str(caught.value.hint)


def test_a_folder_holds_each_key_once(tmp_path: Path) -> None:
    one, two = make_key("one", tmp_path / "private"), make_key("two", tmp_path / "private")
    (tmp_path / "keys").mkdir()
    for name, key in (("a", one), ("b", one), ("c", two)):
        (tmp_path / "keys" / f"{name}.pub.pem").write_text(key.public.pem)
    (tmp_path / "keys" / "notes.txt").write_text("no key")
    assert [(key.name, key.id) for key in read_folder(tmp_path / "keys")] == [
        ("a", one.public.id),
        ("c", two.public.id),
    ]


def test_a_key_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    key = make_key("one", tmp_path / "private")
    (tmp_path / "keys").mkdir()
    path = tmp_path / "keys" / "one.pub.pem"
    path.write_text(key.public.pem)
    path.chmod(0o666)
    with pytest.raises(StorageError, match=r"one\.pub\.pem is writable by other users"):
        read_folder(tmp_path / "keys")
    path.chmod(0o644)
    path.parent.chmod(0o777)
    with pytest.raises(StorageError, match="keys is writable by other users"):
        read_folder(tmp_path / "keys")


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "cryptography":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ToolchainError) as caught:
        keys.make_key("one", tmp_path)
    assert caught.value.hint == "pip install 'edgepack[verify]'"
