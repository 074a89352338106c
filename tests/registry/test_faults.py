"""A registry with faults: nothing partial under a final name, no password elsewhere, bounded time and memory."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from registry_server import Faulty, login, send
from small_bundles import small_bundle

from edgepack.errors import EdgepackError, IntegrityError, RemoteError
from edgepack.registry.client import INDEX_TYPE, Client
from edgepack.registry.layout import Layout
from edgepack.registry.reference import Folder, Reference
from edgepack.registry.transfer import cache_layout, pull, push


def got(registry: Faulty, folder: Path) -> tuple[list[float], bytes]:
    """Pull, and return what was waited and what came."""
    waited: list[float] = []
    reference = Reference(registry.host, "net", "1")
    pull(reference, folder / "got.edgepack", client=Client(reference, waited.append))
    return waited, (folder / "got.edgepack").read_bytes()


def nothing_is_left(folder: Path) -> None:
    assert not (folder / "got.edgepack").exists()
    layout = cache_layout()
    for path in (layout.folder / "blobs" / "sha256").glob("*"):
        assert layout.has(f"sha256:{path.name}", path.stat().st_size), "what has a name is whole"


def right(folder: Path) -> bytes:
    return (folder / "small.edgepack").read_bytes()


def large(registry: Faulty) -> str:
    return max(registry.blobs, key=lambda name: len(registry.blobs[name]))


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_blob_cut_at_every_tenth_goes_on_there(registry: Faulty, tmp_path: Path, tenth: int) -> None:
    data, cuts = registry.blobs[large(registry)], [0]

    def answer(request: Any) -> bool:
        if large(registry) not in request.path or cuts[0]:
            return False
        cuts[0] += 1
        send(request, 200, data[: len(data) * tenth // 10], length=len(data))
        request.close_connection = True
        return True

    registry.answer = answer
    waited, came = got(registry, tmp_path)
    assert came == right(tmp_path)
    assert (cuts, waited) == ([1], [1.0])
    assert [path for _, path, _ in registry.seen].count(f"/v2/net/blobs/{large(registry)}") == 2


def test_a_registry_that_ignores_ranges_is_read_anew(registry: Faulty, tmp_path: Path) -> None:
    data, asked = registry.blobs[large(registry)], [0]

    def answer(request: Any) -> bool:
        if large(registry) not in request.path:
            return False
        asked[0] += 1
        send(request, 200, data if asked[0] > 1 else data[:1000], length=len(data))
        request.close_connection = True
        return True

    registry.answer = answer
    assert got(registry, tmp_path)[1] == right(tmp_path)


def test_a_link_that_stays_cut_is_an_error(registry: Faulty, tmp_path: Path) -> None:
    def answer(request: Any) -> bool:
        if large(registry) in request.path:
            send(request, 200, b"", length=1000)
            request.close_connection = True
            return True
        return False

    registry.answer = answer
    with pytest.raises(RemoteError):
        got(registry, tmp_path)
    nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("code", "said", "waited"),
    [(429, "7", [7.0, 7.0]), (429, "99999", [60.0, 60.0]), (503, "soon", [1.0, 2.0]), (500, "", [1.0, 2.0])],
)
def test_a_busy_registry_is_waited_for(
    registry: Faulty, tmp_path: Path, code: int, said: str, waited: list[float]
) -> None:
    left = [2]

    def answer(request: Any) -> bool:
        if "/manifests/" in request.path and left[0]:
            left[0] -= 1
            send(request, code, b"", {"Retry-After": said} if said else {})
            return True
        return False

    registry.answer = answer
    assert got(registry, tmp_path) == (waited, right(tmp_path))


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500, 503])
def test_a_refusal_is_one_error(registry: Faulty, tmp_path: Path, code: int) -> None:
    registry.answer = lambda request: send(request, code, b"<html>") or True
    with pytest.raises(RemoteError, match=f"answers {code}"):
        got(registry, tmp_path)
    nothing_is_left(tmp_path)
    assert len(registry.seen) <= 5


def test_tampered_blobs_are_refused(registry: Faulty, tmp_path: Path) -> None:
    data = bytearray(registry.blobs[large(registry)])
    data[len(data) // 2] ^= 1
    registry.blobs[large(registry)] = bytes(data)
    with pytest.raises(IntegrityError, match="returned a different file"):
        got(registry, tmp_path)
    nothing_is_left(tmp_path)


def test_more_than_was_announced_is_cut_off(registry: Faulty, tmp_path: Path) -> None:
    """An answer without an end, or with a length that is a lie, takes no more room than the manifest allows."""
    name = large(registry)
    sent = [0]

    def answer(request: Any) -> bool:
        if name not in request.path:
            return False
        request.send_response(200)
        request.end_headers()
        for _ in range(300):
            request.wfile.write(bytes(1 << 20))
            sent[0] += 1 << 20
        return True

    registry.answer = answer
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntegrityError, match="returned more than"):
        got(registry, tmp_path)
    nothing_is_left(tmp_path)
    assert sent[0] < 64 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_manifest_that_is_cut_off_is_said(registry: Faulty, tmp_path: Path) -> None:
    def answer(request: Any) -> bool:
        send(request, 200, registry.manifest[:100], length=len(registry.manifest))
        request.close_connection = True
        return True

    registry.answer = answer
    with pytest.raises(RemoteError, match="cut off after 100 bytes"):
        got(registry, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["/manifests/", "/blobs/"])
def test_an_answer_that_trickles_is_given_up(
    registry: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A byte now and then keeps a socket alive for ever."""
    monkeypatch.setattr("edgepack.registry.connection.PATIENCE_S", 0.3)

    def answer(request: Any) -> bool:
        if what not in request.path:
            return False
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        for _ in range(600):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)
        return True

    registry.answer = answer
    began = time.monotonic()
    with pytest.raises(RemoteError):
        got(registry, tmp_path)
    assert time.monotonic() - began < 20
    nothing_is_left(tmp_path)


def slowly(request: Any, piece: bytes, pause_s: float = 0.05) -> None:
    """Send a piece again and again, for longer than anybody waits."""
    for _ in range(600):
        request.wfile.write(piece)
        request.wfile.flush()
        time.sleep(pause_s)


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9000\r\n\r\n", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    ],
    ids=["status", "headers", "error", "interim"],
)
def test_an_answer_whose_beginning_never_ends_is_given_up(
    registry: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes, piece: bytes
) -> None:
    monkeypatch.setattr("edgepack.registry.connection.PATIENCE_S", 0.3)

    def answer(request: Any) -> bool:
        request.wfile.write(begin)
        slowly(request, piece)
        return True

    registry.answer = answer
    reference, began = Reference(registry.host, "net", "1"), time.monotonic()
    with pytest.raises(RemoteError):
        pull(reference, tmp_path / "got.edgepack", client=Client(reference, tries=1))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("code", [404, 401])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 9000, "answers 40"),
        (b'{"errors": [{"message": ["no", 7]}]}', r"\['no', 7\]"),
        (b'{"errors": [{"message": "' + b"long " * 1800 + b'"}]}', "long …|long long…| l?o?n?g?…$"),
    ],
    ids=["deep", "list", "long"],
)
def test_whatever_a_refusal_says_is_one_error(
    registry: Faulty, tmp_path: Path, code: int, body: bytes, words: str
) -> None:
    registry.answer = lambda request: send(request, code, body) or True
    with pytest.raises(RemoteError, match=words) as caught:
        got(registry, tmp_path)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "token", [b"[" * 100_000, b'{"token": "a\\r\\nX-Other: b"}', b'{"token": "\xc3\xa4"}', b"[]", b"7", b"{}", b"\xff"]
)
def test_a_token_that_cannot_be_one_is_one_error(registry: Faulty, tmp_path: Path, token: bytes) -> None:
    def answer(request: Any) -> bool:
        if request.path.startswith("/token?"):
            send(request, 200, token)
        else:
            send(request, 401, b"", {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token",service="r"'})
        return True

    registry.answer = answer
    with pytest.raises(RemoteError):
        got(registry, tmp_path)


@pytest.mark.parametrize(
    "place",
    ["http://[::1", "http://127.0.0.1:many/", "http://127.0.0.1:99999/", "http://127.0.0.1/\xe4", "http:///", "//["],
)
def test_a_redirect_to_no_address_is_one_error(registry: Faulty, tmp_path: Path, place: str) -> None:
    registry.answer = lambda request: send(request, 307, b"", {"Location": place}) or True
    with pytest.raises(RemoteError):
        got(registry, tmp_path)


def test_what_a_registry_asks_for_is_read_in_bounded_time(registry: Faulty, tmp_path: Path) -> None:
    """A header of 60 kB took a minute and a half: each letter of a word could be its first one."""
    registry.answer = lambda request: send(request, 401, b"", {"WWW-Authenticate": "Bearer " + "a" * 60_000}) or True
    began = time.process_time()
    with pytest.raises(RemoteError):
        got(registry, tmp_path)
    assert time.process_time() - began < 3


def test_another_manifest_at_the_second_request_changes_no_file(registry: Faulty, tmp_path: Path) -> None:
    """Of a tag the manifest is asked for once; what it names is what comes, whatever the tag names then."""
    push(small_bundle(tmp_path / "other", 5), Folder(tmp_path / "stick"))
    layout = Layout(tmp_path / "stick")
    second, asked = layout.read(layout.find("latest")), []
    for path in (tmp_path / "stick" / "blobs" / "sha256").iterdir():
        registry.blobs[f"sha256:{path.name}"] = path.read_bytes()

    def answer(request: Any) -> bool:
        if "/manifests/" in request.path:
            asked.append(request.path)
            send(request, 200, registry.manifest if len(asked) == 1 else second)
            return True
        return False

    registry.answer = answer
    assert got(registry, tmp_path)[1] == right(tmp_path)
    assert len(asked) == 1
    assert got(registry, tmp_path)[1] == (tmp_path / "other" / "small.edgepack").read_bytes()
    pinned = Reference(registry.host, "net", None, Client(Reference(registry.host, "net", "1")).manifest("1")[1])
    registry.answer = lambda request: "/manifests/" in request.path and (send(request, 200, registry.manifest) or True)
    with pytest.raises(IntegrityError, match="returned a different manifest"):
        pull(pinned, tmp_path / "pinned.edgepack", client=Client(pinned))


def test_a_manifest_that_is_too_large_or_another_is_refused(registry: Faulty, tmp_path: Path) -> None:
    registry.answer = lambda request: "/manifests/" in request.path and (send(request, 200, bytes(5 << 20)) or True)
    with pytest.raises(RemoteError, match="has more than"):
        got(registry, tmp_path)
    registry.answer = lambda _: False
    reference = Reference(registry.host, "net", None, "sha256:" + "a" * 64)
    with pytest.raises(IntegrityError, match="returned a different manifest"):
        pull(reference, tmp_path / "got.edgepack", client=Client(reference))
    nothing_is_left(tmp_path)


def pushed(registry: Faulty, folder: Path, referrers: tuple[int, bytes], tag: tuple[int, bytes], **header: str) -> Any:
    """Push to a registry that has every blob, and return which manifests came and how often lists were asked for."""
    came, asked = list[str](), list[str]()

    def answer(request: Any) -> bool:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        place = request.path.removeprefix("/v2/net/")
        if request.command == "PUT":
            came.append(place)
            send(
                request, 201, b"", {"OCI-Subject" if name == "subject" else name: text for name, text in header.items()}
            )
        elif place.startswith("referrers/"):
            asked.append(place)
            send(request, *referrers, {"Content-Type": INDEX_TYPE})
        elif place.startswith("manifests/sha256-"):
            asked.append(place)
            send(request, *tag, {"Content-Type": INDEX_TYPE})
        else:
            send(request, 200)
        return True

    registry.answer = answer
    reference = Reference(registry.host, "net", "1")
    try:
        push(folder / "small.edgepack", reference, Client(reference, lambda _: None))
    finally:
        registry.answer = lambda _: False
    return came, asked


def many(count: int) -> bytes:
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "a" * 64, "size": 7}
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry] * count}).encode()


def test_a_registry_that_lists_what_refers_is_left_to_it_however_long_the_list_is(
    registry: Faulty, tmp_path: Path
) -> None:
    came, asked = pushed(registry, tmp_path, (200, many(100_000)), (404, b""))
    assert came[-1] == "manifests/1"
    assert not [place for place in (*came, *asked) if place.startswith("manifests/sha256-")]
    came, asked = pushed(registry, tmp_path, (200, many(1)), (404, b""), subject="sha256:" + "a" * 64)
    assert came[-1] == "manifests/1"
    assert asked == []


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (many(100_000), "has more than"),
        (b"[" * 9000, "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"manifests": [7]}', "lists no manifests"),
        (b'{"manifests": {"a": 7}}', "lists no manifests"),
        (b"[]", "cannot be read"),
    ],
    ids=["long", "deep", "none", "numbers", "table", "list"],
)
def test_a_list_of_what_refers_that_cannot_be_one_is_not_written_over(
    registry: Faulty, tmp_path: Path, index: bytes, words: str
) -> None:
    with pytest.raises(RemoteError, match=words) as caught:
        pushed(registry, tmp_path, (404, b""), (200, index))
    assert caught.value.hint
    came, _ = pushed(registry, tmp_path, (404, b""), (200, many(3)))
    assert [place for place in came if place.startswith("manifests/sha256-")], "and one that is a list is added to"


def test_redirects_in_a_circle_end(registry: Faulty, tmp_path: Path) -> None:
    registry.answer = lambda request: send(request, 307, b"", {"Location": request.path}) or True
    with pytest.raises(RemoteError, match="redirects more than 5 times"):
        got(registry, tmp_path)
    assert len(registry.seen) == 6


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirects_to_what_is_not_http_are_refused(registry: Faulty, tmp_path: Path, place: str) -> None:
    registry.answer = lambda request: send(request, 302, b"", {"Location": place}) or True
    with pytest.raises(RemoteError, match="which is not safe"):
        got(registry, tmp_path)


def basic(registry: Faulty, request: Any) -> bool:
    """Ask for a password where none came."""
    if request.headers.get("Authorization"):
        return False
    send(request, 401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    return True


def test_a_redirect_to_another_host_gets_no_password(registry: Faulty, tmp_path: Path) -> None:
    """As registries do that keep blobs in a bucket."""
    login(tmp_path / "docker", registry.host)
    elsewhere = Faulty(b"", list(registry.blobs.values()))

    def answer(request: Any) -> bool:
        if basic(registry, request):
            return True
        if "/blobs/" in request.path:
            send(request, 307, b"", {"Location": f"http://{elsewhere.host}{request.path}?signed=yes"})
            return True
        return False

    def bucket(request: Any) -> bool:
        request.path = request.path.partition("?")[0]
        return False

    registry.answer, elsewhere.answer = answer, bucket
    try:
        assert got(registry, tmp_path)[1] == right(tmp_path)
    finally:
        elsewhere.close()
    assert elsewhere.seen
    assert {authorization for _, _, authorization in elsewhere.seen} == {None}
    assert any(authorization for _, _, authorization in registry.seen)


def test_a_password_that_is_refused_is_not_tried_again_and_again(registry: Faulty, tmp_path: Path) -> None:
    login(tmp_path / "docker", registry.host)
    registry.answer = lambda request: send(request, 401, b"", {"WWW-Authenticate": "Basic realm=x"}) or True
    with pytest.raises(RemoteError, match="answers 401"):
        got(registry, tmp_path)
    assert len(registry.seen) == 2


def test_a_token_is_fetched_where_the_registry_says(registry: Faulty, tmp_path: Path) -> None:
    login(tmp_path / "docker", registry.host)

    def answer(request: Any) -> bool:
        if request.path.startswith("/token?"):
            assert request.headers.get("Authorization", "").startswith("Basic ")
            send(request, 200, json.dumps({"token": "abc"}).encode())
            return True
        if request.headers.get("Authorization") == "Bearer abc":
            return False
        scope = f'Bearer realm="http://{registry.host}/token",service="r",scope="repository:net:pull"'
        send(request, 401, b"", {"WWW-Authenticate": scope})
        return True

    registry.answer = answer
    assert got(registry, tmp_path)[1] == right(tmp_path)
    assert sum("/token?" in path for _, path, _ in registry.seen) == 1
    assert any("scope=repository%3Anet%3Apull" in path for _, path, _ in registry.seen)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "x"])
def test_a_token_from_nowhere_is_refused(registry: Faulty, tmp_path: Path, realm: str) -> None:
    login(tmp_path / "docker", registry.host)
    registry.answer = lambda request: (
        send(request, 401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="r"'}) or True
    )
    with pytest.raises(RemoteError):
        got(registry, tmp_path)


def test_no_registry_is_one_error(tmp_path: Path) -> None:
    reference = Reference("127.0.0.1:1", "net", "1")
    with pytest.raises(EdgepackError, match="cannot be reached") as caught:
        pull(reference, tmp_path / "x.edgepack", client=Client(reference, lambda _: None))
    assert caught.value.hint
