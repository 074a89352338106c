"""Who this machine is to a registry: identity tokens, helpers that answer nonsense, and services that are busy."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from registry_server import Faulty, login, send

from edgepack.errors import ConfigError, RemoteError
from edgepack.registry import credentials
from edgepack.registry.client import Client
from edgepack.registry.reference import Reference, parse
from edgepack.registry.transfer import pull, push


def got(registry: Faulty, folder: Path) -> list[float]:
    """Pull, compare and return what was waited."""
    waited: list[float] = []
    reference = Reference(registry.host, "net", "1")
    pull(reference, folder / "got.edgepack", client=Client(reference, waited.append))
    assert (folder / "got.edgepack").read_bytes() == (folder / "small.edgepack").read_bytes()
    return waited


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let Docker's configuration name a credential helper that runs ``script``."""
    program = folder / "bin" / "docker-credential-test"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    (folder / "docker").mkdir(exist_ok=True)
    (folder / "docker" / "config.json").write_text(json.dumps({"credsStore": "test"}))


class Service:
    """A registry that takes bearer tokens alone, and the service that gives them; ``busy`` are its next answers."""

    def __init__(self, registry: Faulty, busy: tuple[int, ...] = ()) -> None:
        self.registry, self.busy = registry, list(busy)
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        registry.answer = self

    def __call__(self, request: Any) -> bool:
        if not request.path.startswith("/token"):
            if request.headers.get("Authorization") == "Bearer abc":
                return False
            scope = f'Bearer realm="http://{self.registry.host}/token",service="r",scope="repository:net:pull"'
            send(request, 401, b"", {"WWW-Authenticate": scope})
            return True
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0)).decode()
        words = urllib.parse.parse_qs(body or request.path.partition("?")[2])
        self.asked.append((request.command, words, request.headers.get("Authorization")))
        if self.busy:
            send(request, self.busy.pop(0), b"", {"Retry-After": "7"})
        else:
            send(request, 200, b'{"access_token": "abc"}')
        return True


@pytest.mark.parametrize("by", ["helper", "file"])
def test_an_identity_token_is_exchanged_and_never_sent_as_a_password(
    registry: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    service = Service(registry)
    if by == "helper":
        helper(tmp_path, monkeypatch, 'echo \'{"Username": "<token>", "Secret": "refresh me"}\'')
    else:
        login(tmp_path / "docker", registry.host, "00000000-0000", "")
        config = json.loads((tmp_path / "docker" / "config.json").read_text())
        config["auths"][registry.host]["identitytoken"] = "refresh me"
        (tmp_path / "docker" / "config.json").write_text(json.dumps(config))
    assert got(registry, tmp_path) == []
    ((method, words, authorization),) = service.asked
    assert (method, authorization) == ("POST", None)
    assert words == {
        "grant_type": ["refresh_token"], "client_id": ["edgepack"], "refresh_token": ["refresh me"], "service": ["r"],
        "scope": ["repository:net:pull"],
    }  # fmt: skip
    assert {said for _, _, said in registry.seen} == {None, "Bearer abc"}


def test_an_identity_token_is_no_answer_to_who_asks_for_a_password(
    registry: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username": "<token>", "Secret": "refresh me"}\'')
    registry.answer = lambda request: send(request, 401, b"", {"WWW-Authenticate": 'Basic realm="x"'}) or True
    with pytest.raises(RemoteError, match="answers 401"):
        got(registry, tmp_path)
    assert {said for _, _, said in registry.seen} == {None}


def test_a_service_of_tokens_that_is_busy_is_waited_for(registry: Faulty, tmp_path: Path) -> None:
    service = Service(registry, (429, 503))
    assert got(registry, tmp_path) == [7.0, 7.0]
    assert len(service.asked) == 3
    Service(registry, (429,) * 5)
    with pytest.raises(RemoteError, match="answers 429 to GET /token"):
        got(registry, tmp_path)


def test_a_registry_that_is_busy_once_it_knows_who_asks_is_waited_for(registry: Faulty, tmp_path: Path) -> None:
    service, left = Service(registry), [2]

    def answer(request: Any) -> bool:
        if "/manifests/" in request.path and request.headers.get("Authorization") and left[0]:
            left[0] -= 1
            send(request, 429, b"", {"Retry-After": "3"})
            return True
        return service(request)

    registry.answer = answer
    assert got(registry, tmp_path) == [3.0, 3.0]


def test_tokens_that_are_never_taken_end(registry: Faulty, tmp_path: Path) -> None:
    """Each is another one, so that there is always something to try again with."""
    count = [0]

    def answer(request: Any) -> bool:
        if request.path.startswith("/token"):
            count[0] += 1
            send(request, 200, json.dumps({"token": f"t{count[0]}"}).encode())
        else:
            send(request, 401, b"", {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token"'})
        return True

    registry.answer = answer
    with pytest.raises(RemoteError, match="answers 401"):
        got(registry, tmp_path)
    assert count == [1]


def test_a_busy_registry_is_waited_for_while_it_is_sent_a_file(registry: Faulty, tmp_path: Path) -> None:
    waited, left = list[float](), [1]

    def answer(request: Any) -> bool:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.command in ("HEAD",):
            send(request, 404)
        elif request.command == "PATCH" and left[0]:
            left[0] -= 1
            send(request, 429, b"", {"Retry-After": "9"})
        else:
            place = {"Location": "/v2/net/blobs/uploads/x", "OCI-Subject": "sha256:" + "a" * 64}
            send(request, 202 if request.command in ("POST", "PATCH") else 201, b"", place)
        return True

    registry.answer = answer
    reference = Reference(registry.host, "net", "1")
    push(tmp_path / "small.edgepack", reference, Client(reference, waited.append))
    assert waited == [9.0]


@pytest.mark.parametrize("script", ["printf '\\377\\376'", "echo '[]'", "echo 7", "printf '['", "true"])
def test_a_helper_that_answers_nonsense_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(ConfigError, match="gave no readable credentials"):
        credentials.find("registry.example.com")


@pytest.mark.parametrize("host", ["localhost:99999", "registry.example.com:65536", "[::1]:70000"])
def test_a_port_that_is_none_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match="is not a reference"):
        parse(f"{host}/net:1")
    assert parse(f"{host[: host.rindex(':')]}:65535/net:1")
