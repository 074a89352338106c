"""Mirrors are asked first and trusted with nothing; layers that another repository has are mounted, not sent."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import main
from registry_server import REGISTRY, Faulty, distribution, login, send
from small_bundles import small_bundle
from ssh_server import free_port

from edgepack.errors import ConfigError, IntegrityError, RemoteError
from edgepack.registry.layout import Layout
from edgepack.registry.mirrors import mirrored
from edgepack.registry.reference import Folder, Reference
from edgepack.registry.transfer import cache_layout, pull, push


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr("edgepack.registry.client._speaks_tls", lambda _: False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Two:
    """A registry and a mirror that have one bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        push(small_bundle(folder, 300), Folder(folder / "usb"))
        layout = Layout(folder / "usb")
        self.digest = layout.find("latest")
        blobs = [path.read_bytes() for path in (folder / "usb" / "blobs" / "sha256").iterdir()]
        self.registry, self.mirror = (Faulty(layout.read(self.digest), blobs) for _ in range(2))

    def pull(self, digest: str | None = None, host: str | None = None) -> int:
        """Pull through the mirror and return how many bytes moved; the file is the one that was pushed."""
        reference = Reference(host or self.registry.host, "net", None if digest else "1", digest)
        moved = pull(reference, self.folder / "got.edgepack", mirrors=[self.mirror.host]).moved_bytes
        assert (self.folder / "got.edgepack").read_bytes() == (self.folder / "small.edgepack").read_bytes()
        return moved

    def blobs_asked(self, server: Faulty) -> int:
        return sum("/blobs/" in path for _, path, _ in server.seen)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    yield made
    for server in (made.registry, made.mirror):
        server.close()


def test_layers_come_from_the_mirror_and_the_tag_from_the_registry(two: Two) -> None:
    assert two.pull() > 0
    assert [path for _, path, _ in two.registry.seen] == ["/v2/net/manifests/1"]
    assert not any("/manifests/" in path for _, path, _ in two.mirror.seen)
    assert two.blobs_asked(two.mirror) > 3


def test_with_a_digest_the_registry_need_not_be_there(two: Two) -> None:
    assert two.pull(two.digest, f"127.0.0.1:{free_port()}") > 0


def test_a_tag_is_never_a_mirrors_word(two: Two) -> None:
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        two.pull(host=f"127.0.0.1:{free_port()}")
    assert "give the digest" in caught.value.hint
    assert two.mirror.seen == []


def test_a_mirror_that_gives_another_manifest_is_left(two: Two) -> None:
    def answer(request: Any) -> bool:
        if "/manifests/" in request.path:
            send(request, 200, two.mirror.manifest + b" ")
        return "/manifests/" in request.path

    two.mirror.answer = answer
    two.pull(two.digest)
    assert two.blobs_asked(two.mirror) == 0


def _wrong(two: Two, request: Any) -> bool:
    name = request.path.rpartition("/")[2]
    send(request, 200, bytes(len(two.mirror.blobs[name])))
    return True


def _cut(two: Two, request: Any) -> bool:
    """Wrong bytes, cut off: the registry must not go on where they end."""
    name = request.path.rpartition("/")[2]
    size = len(two.mirror.blobs[name])
    send(request, 200, bytes(size // 2), length=size)
    request.close_connection = True
    return True


def _refused(_two: Two, request: Any) -> bool:
    send(request, 403)
    return True


def _busy(_two: Two, request: Any) -> bool:
    send(request, 503, headers={"Retry-After": "3600"})
    return True


@pytest.mark.parametrize("fault", [_wrong, _cut, _refused, _busy])
def test_a_bad_mirror_is_asked_once_and_the_registry_gives_the_rest(two: Two, fault: Any) -> None:
    two.mirror.answer = lambda request: fault(two, request)
    two.pull()
    assert two.blobs_asked(two.mirror) == 1
    assert two.blobs_asked(two.registry) > 3


def test_what_a_mirror_lacks_comes_from_the_registry(two: Two) -> None:
    lacking = max(two.mirror.blobs, key=lambda name: len(two.mirror.blobs[name]))
    del two.mirror.blobs[lacking]
    two.pull()
    assert [path.rpartition("/")[2] for _, path, _ in two.registry.seen if "/blobs/" in path] == [lacking]
    assert two.blobs_asked(two.mirror) > 3


def test_a_mirror_gets_no_password_of_the_registry(two: Two, tmp_path: Path) -> None:
    login(tmp_path / "docker", two.registry.host)

    def asks(request: Any) -> bool:
        if request.headers.get("Authorization"):
            return False
        send(request, 401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return True

    two.registry.answer = two.mirror.answer = asks
    two.pull()
    assert {word for _, _, word in two.mirror.seen} == {None}


def test_damage_in_the_registry_too_is_an_error(two: Two) -> None:
    two.registry.answer = two.mirror.answer = lambda request: "/blobs/" in request.path and _wrong(two, request)
    with pytest.raises(IntegrityError, match="returned a different file"):
        two.pull()
    assert not list((cache_layout().folder / "blobs" / "sha256").glob("*"))


@pytest.mark.parametrize("place", ["", "/", "m/a:1", "m/a@sha256:" + "0" * 64, "http://m", "M/UPPER", "-x", "m//a"])
def test_what_is_no_mirror_is_said(place: str) -> None:
    with pytest.raises(ConfigError, match="is not a"):
        mirrored(Reference("host", "a"), place)


def test_a_mirror_may_have_a_prefix() -> None:
    assert mirrored(Reference("h", "a/b", "1"), "m:5000/docker/cache/") == Reference("m:5000", "docker/cache/a/b")
    assert mirrored(Reference("h", "a"), "m") == Reference("m", "a")


def test_a_folder_has_no_mirrors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are asked for by name are refused, as nothing would come from them; not those of the environment."""
    push(small_bundle(tmp_path), Folder(tmp_path / "usb"))
    words = ["pull", f"oci:{tmp_path / 'usb'}", "--out", str(tmp_path / "got.edgepack")]
    assert main([*words, "--mirror", "mirror.example.com"]) == ConfigError.exit_code
    assert "is a folder, and nothing of it comes from mirrors" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "got.edgepack").exists()
    monkeypatch.setenv("EDGEPACK_MIRRORS", "mirror.example.com")
    assert main(words) == 0
    assert (tmp_path / "got.edgepack").read_bytes() == (tmp_path / "small.edgepack").read_bytes()


# --- mounts, in CNCF's distribution -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    with distribution(tmp_path_factory.mktemp("registry") / "plain") as found:
        yield found


def test_what_another_repository_has_is_mounted(host: str, tmp_path: Path) -> None:
    path = small_bundle(tmp_path, 300)
    first = push(path, Reference(host, "one/net", "1"))
    assert first.moved_bytes > 0
    mounted = push(path, Reference(host, "two/net", "1"), repositories=["nobody/has", "one/net"])
    assert (mounted.moved_bytes, mounted.digest) == (0, first.digest)
    pull(Reference(host, "two/net", "1"), tmp_path / "got.edgepack")
    assert (tmp_path / "got.edgepack").read_bytes() == path.read_bytes()
    sent = push(path, Reference(host, "three/net", "1"), repositories=["nobody/has"])
    assert sent.moved_bytes == first.moved_bytes
    with urllib.request.urlopen(f"http://{host}/v2/three/net/tags/list") as answer:
        assert b'"1"' in answer.read()


@pytest.mark.parametrize("name", ["", "UPPER", "host:5000/a", "a:1", "../a", "a b"])
def test_what_is_no_repository_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be mounted from"):
        push(small_bundle(tmp_path), Reference("127.0.0.1:1", "a"), repositories=[name])


def test_a_folder_mounts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be mounted from"):
        push(small_bundle(tmp_path), Folder(tmp_path / "usb"), repositories=["a"])
