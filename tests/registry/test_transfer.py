"""Bundles through a real registry (CNCF distribution, with TLS and a password) and through folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import main
from registry_server import REGISTRY, distribution, login
from small_bundles import small_bundle
from trust_cases import new_key, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.errors import BundleError, ConfigError, IntegrityError, RemoteError
from edgepack.registry.client import INDEX_TYPE, Client
from edgepack.registry.layout import Layout
from edgepack.registry.reference import Folder, Reference, parse
from edgepack.registry.transfer import cache_layout, pull, push


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    with distribution(tmp_path_factory.mktemp("registry") / "plain") as host:
        yield host


def of(host: str, name: str, tag: str = "1.0") -> Reference:
    found = parse(f"{host}/models/{name}:{tag}")
    assert isinstance(found, Reference)
    return found


# --- references -------------------------------------------------------------------------------------------------------


def test_references() -> None:
    digest = "sha256:" + "a" * 64
    assert parse("registry.example.com/models/net:1.0") == Reference("registry.example.com", "models/net", "1.0")
    assert parse(f"localhost:5000/net@{digest}") == Reference("localhost:5000", "net", None, digest)
    assert parse(f"h/a/b-c_d.e:t@{digest}") == Reference("h", "a/b-c_d.e", "t", digest)
    assert parse("oci:usb/stick:1.0") == Folder(Path("usb/stick"), "1.0")
    assert parse("oci:usb") == Folder(Path("usb"), "latest")
    assert str(parse(f"h/a:t@{digest}")) == f"h/a:t@{digest}"
    hosts = {"localhost": True, "127.0.0.1:5000": True, "[::1]:5": True, "localhost.evil.com": False}
    assert {host: Reference(host, "a").is_loopback for host in hosts} == hosts


@pytest.mark.parametrize(
    "text", ["", "net", "host/", "host/UPPER", "host/a:", "host/a@sha256:1", "host/../a", "http://host/a", "ho st/a",
             "host/a:b:c", "-x/a", "host/a?b", "host@x/a", "host:99999999/a", "oci:", "a/" + "b" * 1000]
)  # fmt: skip
def test_what_is_no_reference_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a reference"):
        parse(text)


# --- a real registry --------------------------------------------------------------------------------------------------


def test_what_is_pulled_is_the_file_that_was_pushed(plain: str, tmp_path: Path) -> None:
    path = signed_bundle(tmp_path, new_key(tmp_path, "release"))
    pushed = push(path, of(plain, "net"))
    assert pushed.moved_bytes > 0
    got = pull(of(plain, "net"), tmp_path / "got" / "net.edgepack")
    assert (tmp_path / "got" / "net.edgepack").read_bytes() == path.read_bytes()
    assert (got.digest, got.sha256) == (pushed.digest, open_bundle(path).sha256)
    by_digest = Reference(plain, "models/net", None, pushed.digest)
    again = pull(by_digest, tmp_path / "again.edgepack")
    assert again.moved_bytes == 0, "it is in the cache"
    assert not list((tmp_path / "got").glob(".*"))


def test_what_two_bundles_share_moves_once(plain: str, tmp_path: Path) -> None:
    first, second = (small_bundle(tmp_path / v, 300, version=v) for v in ("1", "2"))
    one, two = (push(path, of(plain, "shared", v)) for path, v in ((first, "1"), (second, "2")))
    weights = max(entry.size_bytes for entry in open_bundle(first).manifest.files)
    assert one.moved_bytes > weights > two.moved_bytes > 0
    assert push(first, of(plain, "shared", "1")).moved_bytes == 0
    pull(of(plain, "shared", "1"), tmp_path / "1.edgepack")
    assert 0 < pull(of(plain, "shared", "2"), tmp_path / "2.edgepack").moved_bytes < weights


def test_signature_and_bill_of_materials_refer_to_the_bundle(plain: str, tmp_path: Path) -> None:
    path = signed_bundle(tmp_path, new_key(tmp_path, "release"))
    pushed = push(path, of(plain, "referred"))
    push(path, of(plain, "referred"))
    client = Client(of(plain, "referred"))
    index = json.loads(client.referrers_tag(pushed.digest) or b"{}")
    kinds = {each["artifactType"]: each["digest"] for each in index["manifests"]}
    assert set(kinds) == {"application/vnd.cyclonedx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"}
    assert len(index["manifests"]) == 2, "once each"
    made = json.loads(client.manifest(kinds["application/vnd.cyclonedx+json"])[0])
    assert made["subject"]["digest"] == pushed.digest
    with urllib.request.urlopen(f"http://{plain}/v2/models/referred/blobs/{made['layers'][0]['digest']}") as answer:
        assert json.loads(answer.read())["bomFormat"] == "CycloneDX"
    tag = pushed.digest.replace(":", "-")
    request = urllib.request.Request(
        f"http://{plain}/v2/models/referred/manifests/{tag}", headers={"Accept": INDEX_TYPE}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Content-Type"] == INDEX_TYPE


def test_what_is_not_there_is_said(plain: str, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="answers 404") as caught:
        pull(of(plain, "nothing"), tmp_path / "x.edgepack")
    assert caught.value.hint == "check the name and the tag"
    with pytest.raises(ConfigError, match="which a push does not choose"):
        push(small_bundle(tmp_path), Reference(plain, "a", None, "sha256:" + "a" * 64))


def test_a_password_and_a_private_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    path = small_bundle(tmp_path)
    with distribution(tmp_path / "secure", secure=True) as host:
        with pytest.raises(RemoteError, match="certificate"):
            push(path, of(host, "net"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "secure" / "ca.pem"))
        with pytest.raises(RemoteError, match="answers 401") as caught:
            push(path, of(host, "net"))
        assert "docker login" in caught.value.hint
        login(tmp_path / "docker", host, password="wrong")
        with pytest.raises(RemoteError, match="answers 401"):
            push(path, of(host, "net"))
        login(tmp_path / "docker", host)
        push(path, of(host, "net"))
        pull(of(host, "net"), tmp_path / "got.edgepack")
        assert (tmp_path / "got.edgepack").read_bytes() == path.read_bytes()
        helper = tmp_path / "bin" / "docker-credential-test"
        helper.parent.mkdir()
        helper.write_text('#!/bin/sh\nread host\necho "{\\"Username\\": \\"user\\", \\"Secret\\": \\"secret\\"}"\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", str(helper.parent), prepend=":")
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"credHelpers": {host: "test"}}))
        shutil.rmtree(cache_layout().folder)
        assert pull(of(host, "net"), tmp_path / "helped.edgepack").moved_bytes > 0
        for config in ("[", {"credHelpers": {host: "../x"}}, {"auths": {host: {"auth": "!"}}}):
            text = config if isinstance(config, str) else json.dumps(config)
            (tmp_path / "docker" / "config.json").write_text(text)
            with pytest.raises(ConfigError):
                push(path, of(host, "net", "2"))


def test_the_commands(plain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_bundle(tmp_path)
    reference = f"{plain}/models/command:1.0"
    assert main(["push", str(path), reference]) == 0
    assert "moved, manifest sha256:" in capsys.readouterr().out
    assert main(["pull", reference, "-o", str(tmp_path / "got.edgepack"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == open_bundle(path).sha256
    assert main(["pull", reference, "--to", f"oci:{tmp_path}/usb:1.0"]) == 0
    assert main(["pull", f"oci:{tmp_path}/usb:1.0", "-o", str(tmp_path / "stick.edgepack")]) == 0
    assert (tmp_path / "stick.edgepack").read_bytes() == path.read_bytes()
    assert main(["pull", reference]) == 2
    assert main(["pull", reference, "--to", "usb"]) == 2


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_carries_bundles(tmp_path: Path) -> None:
    paths = {v: small_bundle(tmp_path / v, 5, version=v) for v in ("1", "2")}
    for tag, path in paths.items():
        push(path, Folder(tmp_path / "usb", tag))
    push(paths["2"], Folder(tmp_path / "usb", "1"))
    assert json.loads((tmp_path / "usb" / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((tmp_path / "usb" / "index.json").read_text())
    assert len(index["manifests"]) == 2
    for blob in (tmp_path / "usb" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    shutil.move(tmp_path / "usb", tmp_path / "moved")
    pull(Folder(tmp_path / "moved", "1"), tmp_path / "got.edgepack")
    assert (tmp_path / "got.edgepack").read_bytes() == paths["2"].read_bytes()
    with pytest.raises(ConfigError, match="has no tag '3'") as caught:
        pull(Folder(tmp_path / "moved", "3"), tmp_path / "x")
    assert caught.value.hint == "its tags: 1, 2"
    with pytest.raises(ConfigError, match="has no tag"):
        pull(Folder(tmp_path / "nowhere"), tmp_path / "x")
    with pytest.raises(ConfigError, match="is a folder, and is not pulled into another one"):
        pull(Folder(tmp_path / "moved", "1"), None, Folder(tmp_path / "other"))


def test_links_of_a_strangers_folder_are_not_followed(tmp_path: Path) -> None:
    """Whoever gave the stick knows a public bundle's digests, and would choose what is overwritten."""
    bundle = small_bundle(tmp_path)
    push(bundle, Folder(tmp_path / "mine", "1"))
    precious = tmp_path / "precious"
    precious.write_text("mine")
    stick = tmp_path / "stick" / "blobs"
    (stick / "sha256").mkdir(parents=True)
    for blob in (tmp_path / "mine" / "blobs" / "sha256").iterdir():
        (stick / f".{blob.name}.part").symlink_to(precious)
    push(bundle, Folder(tmp_path / "stick", "1"))
    assert precious.read_text() == "mine"
    pull(Folder(tmp_path / "stick", "1"), tmp_path / "got.edgepack")
    assert (tmp_path / "got.edgepack").read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize("place", ["blobs", "blobs/sha256"])
def test_folders_that_are_links_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere" / "sha256").mkdir(parents=True)
    link = tmp_path / "stick" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link to another folder"):
        push(small_bundle(tmp_path), Folder(tmp_path / "stick", "1"))
    assert [path.name for path in (tmp_path / "elsewhere").rglob("*")] == ["sha256"]


@pytest.mark.timeout(60)
def test_pipes_of_a_strangers_folder_do_not_block(tmp_path: Path) -> None:
    push(small_bundle(tmp_path), Folder(tmp_path / "stick", "1"))
    index = tmp_path / "stick" / "index.json"
    text = index.read_text()
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(ConfigError, match="cannot be read"):
        pull(Folder(tmp_path / "stick", "1"), tmp_path / "x")
    index.unlink()
    index.write_text(text)
    manifest = tmp_path / "stick" / "blobs" / "sha256" / json.loads(text)["manifests"][0]["digest"][7:]
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(ConfigError, match="has no sha256:"):
        pull(Folder(tmp_path / "stick", "1"), tmp_path / "x")


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    path = small_bundle(tmp_path)
    folder = tmp_path / "usb"
    push(path, Folder(folder))
    saved = tmp_path / "saved"
    shutil.copytree(folder, saved)
    blobs = sorted((folder / "blobs" / "sha256").iterdir())
    for blob in blobs:
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        config = b'"modelfs"' in bytes(data) or b"modelfs" in bytes(data)
        if config:
            continue  # nothing is read from it
        with pytest.raises(IntegrityError):
            pull(Folder(folder), tmp_path / "x.edgepack")
        assert not (tmp_path / "x.edgepack").exists()
    (folder / "index.json").write_text("{")
    with pytest.raises(ConfigError, match=r"index\.json cannot be read"):
        pull(Folder(folder), tmp_path / "x.edgepack")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(artifactType="application/vnd.other"),
        lambda m: m["layers"][1]["annotations"].update({"org.cncf.model.filepath": "../../etc/passwd"}),
        lambda m: m["layers"][1]["annotations"].update({"org.cncf.model.filepath": "/etc/passwd"}),
        lambda m: m["layers"][1]["annotations"].update({"org.cncf.model.filepath": "manifest.json"}),
        lambda m: m["layers"].pop(0),
        lambda m: m["layers"].append(m["layers"][1]),
        lambda m: m.update(layers="x"),
        lambda m: m["layers"][0].update(size=-1),
        lambda m: m["layers"][0].update(size=1 << 50),
        lambda m: m["layers"][1].update(digest="sha256:../../../etc/passwd"),
        lambda m: m.pop("layers"),
        lambda m: m["annotations"].update({"edgepack.bundle.sha256": "0" * 64}),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, change: object) -> None:
    folder = tmp_path / "usb"
    push(small_bundle(tmp_path), Folder(folder))
    layout = Layout(folder)
    manifest = json.loads(layout.read(layout.find("latest")))
    change(manifest)  # type: ignore[operator]
    text = json.dumps(manifest).encode()
    layout.tag("latest", layout.add_bytes(text), len(text), "x")
    with pytest.raises((BundleError, IntegrityError, ConfigError)) as caught:
        pull(Folder(folder), tmp_path / "x.edgepack")
    assert caught.value.hint
    assert not (tmp_path / "x.edgepack").exists()


@pytest.mark.parametrize("text", ["oci://registry.example.com/models/net:1.0", "oci://x", "oci:///tmp/x"])
def test_a_registry_has_no_scheme_and_nothing_is_written_to_the_root_for_one(text: str) -> None:
    with pytest.raises(ConfigError, match="a registry is named without 'oci://'") as error:
        parse(text)
    assert "one slash" in error.value.hint
