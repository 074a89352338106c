"""A small client of the OCI distribution protocol: every byte against its digest, bounded in memory, size and time.

Credentials go to the registry that they are for and to the token service that it names, never to where it redirects.
Plain HTTP is spoken with this machine alone. Proxies and certificates are those of Python: ``HTTPS_PROXY``,
``NO_PROXY``, ``SSL_CERT_FILE``.
Source: opencontainers/distribution-spec 1.1; the token protocol of CNCF distribution.
"""

from __future__ import annotations

import base64
import hashlib
import http
import http.client
import re
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import IO, Any

from edgepack import __version__
from edgepack.base.documents import read_json
from edgepack.base.files import open_own, open_regular, storage_errors
from edgepack.base.text import shortened
from edgepack.errors import IntegrityError, RemoteError
from edgepack.registry import credentials
from edgepack.registry.connection import TIMEOUT_S, HttpHandler, HttpsHandler, Outgoing
from edgepack.registry.reference import Reference

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_LIMIT_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_UPLOAD_BYTES = 8 << 20
_TRIES = 5
_MOST_WAIT_S = 60.0
_MOST_REDIRECTS = 5
_AGAIN = (429, 500, 502, 503, 504)
_PAIR = re.compile(r'\b([a-zA-Z_]{1,32})="([^"]{0,4096})"')
_MOST_WORDS = 300  # characters of what a registry says


class Client:
    """A registry's repository. ``sleep`` waits between ``tries``."""

    def __init__(self, reference: Reference, sleep: Callable[[float], None] = time.sleep, tries: int = _TRIES) -> None:
        self.host, self.name, self._sleep, self._tries = reference.host, reference.name, sleep, tries
        self._base = f"{'http' if reference.is_loopback and not _speaks_tls(reference) else 'https'}://{self.host}"
        self._authorization: str | None = None
        self._opener = urllib.request.build_opener(
            _NoRedirect, HttpHandler(), HttpsHandler(context=ssl.create_default_context())
        )

    # --- manifests ----------------------------------------------------------------------------------------------------

    def manifest(self, version: str, accept: str = MANIFEST_TYPE) -> tuple[bytes, str]:
        """Return a manifest's bytes and digest. Raises ``IntegrityError`` where another digest was asked for."""
        with self._open("GET", f"manifests/{version}", headers={"Accept": accept}) as answer:
            data = b"".join(_pieces(answer, MANIFEST_LIMIT_BYTES + 1))
        if len(data) > MANIFEST_LIMIT_BYTES:
            raise RemoteError(
                f"{self.host}: the manifest {version} has more than {MANIFEST_LIMIT_BYTES} bytes",
                hint="a bundle's is smaller; see what was pushed there",
            )
        digest = digest_of(data)
        if version.startswith("sha256:") and digest != version:
            raise IntegrityError(f"{self.host} returned a different manifest from {version}", hint="try another mirror")
        return data, digest

    def put_manifest(self, version: str, data: bytes, kind: str = MANIFEST_TYPE) -> bool:
        """Store a manifest under a tag or its digest; say whether the registry lists by itself to what it refers."""
        with self._open("PUT", f"manifests/{version}", data, {"Content-Type": kind}) as answer:
            return answer.headers.get("OCI-Subject") is not None

    def lists_referrers(self, digest: str) -> bool:
        """Say whether the registry has the referrers API, which answers for every manifest."""
        try:
            with self._open("GET", f"referrers/{digest}", headers={"Accept": INDEX_TYPE}) as answer:
                return bool(answer.headers.get_content_type() == INDEX_TYPE)
        except _StatusError as error:
            if error.code != 404:
                raise
        return False

    def referrers_tag(self, digest: str) -> bytes | None:
        """Return what the fallback tag holds of what refers to a manifest; None where there is none."""
        try:
            return self.manifest(digest.replace(":", "-"), INDEX_TYPE)[0]
        except _StatusError as error:
            if error.code != 404:
                raise
        return None

    # --- blobs --------------------------------------------------------------------------------------------------------

    def fetch(self, digest: str, size: int, place: Path, told: Callable[[int], None] = lambda _: None) -> None:
        """Write a blob to ``place``, going on with what is there; whole by size and digest, or ``IntegrityError``.

        What was there may be of another registry that gave wrong bytes, so that a blob is then read anew once.
        """
        others = _own_size(place) > 0
        for attempt in range(self._tries + others):
            have = _own_size(place)
            if have > size:
                place.unlink()
                have = 0
            if have == size and place.exists() and _digest_file(place) == digest:
                return
            try:
                self._fetch(digest, size, place, have, told)
            except _CUT as error:
                if isinstance(error, _StatusError) or attempt + 1 >= self._tries:
                    raise self._failed(error) from None
                self._sleep(min(2.0**attempt, _MOST_WAIT_S))
                continue
            if _digest_file(place) == digest:
                return
            place.unlink()
            if have and others:
                others = False
                continue
            raise IntegrityError(
                f"{self.host} returned a different file from {digest}", hint="try another mirror, or push again"
            )
        raise RemoteError(
            f"{self.host}: {digest} was cut off {self._tries} times", hint="pull again: what came is kept"
        )

    def _fetch(self, digest: str, size: int, place: Path, have: int, told: Callable[[int], None]) -> None:
        headers = {"Range": f"bytes={have}-"} if 0 < have < size else {}
        with self._open("GET", f"blobs/{digest}", headers=headers) as answer, storage_errors(place):
            goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            with open_own(place, append=goes_on) as file:
                came = have if goes_on else 0
                for piece in _pieces(answer, size + 1 - came):
                    file.write(piece)
                    came += len(piece)
                    told(came)
        if came > size:
            place.unlink()
            raise IntegrityError(
                f"{self.host} returned more than the {size} bytes of {digest}", hint="try another mirror"
            )
        if came < size:
            raise ConnectionError(f"{came} of {size} bytes came")

    def has(self, digest: str) -> bool:
        """Say whether the registry has a blob."""
        try:
            with self._open("HEAD", f"blobs/{digest}"):
                return True
        except _StatusError as error:
            if error.code == 404:
                return False
            raise

    def push(
        self,
        digest: str,
        path: Path,
        told: Callable[[int], None] = lambda _: None,
        repositories: Sequence[str] = (),
    ) -> bool:
        """Store a blob unless it is there, in pieces that go on where they were cut; say whether it was sent.

        Nor is it sent where one of the registry's other ``repositories`` has it and it may be mounted from there.
        """
        if self.has(digest):
            return False
        size = path.stat().st_size
        place = self._begin_or_mount(digest, repositories)
        if place is None:
            return False
        sent = failed = 0
        with path.open("rb") as file:
            while sent < size:
                file.seek(sent)
                piece = file.read(_UPLOAD_BYTES)
                try:
                    headers = {
                        "Content-Type": "application/octet-stream",
                        "Content-Range": f"{sent}-{sent + len(piece) - 1}",
                    }
                    with self._open("PATCH", place, piece, headers, again=False) as answer:
                        place = self._location(answer.headers)
                    sent += len(piece)
                    told(sent)
                except _CUT as error:
                    failed += 1
                    if failed == self._tries or (isinstance(error, _StatusError) and error.code not in (*_AGAIN, 416)):
                        raise self._failed(error) from None
                    self._sleep(_wait(getattr(error, "headers", {}), failed))
                    place, sent = self._offset(place)
        joint = "&" if "?" in place else "?"
        with self._open("PUT", f"{place}{joint}digest={urllib.parse.quote(digest)}", b""):
            return True

    def _begin_or_mount(self, digest: str, repositories: Sequence[str]) -> str | None:
        """Return where a blob is to be sent to; None when it was mounted (distribution-spec, "Mounting a blob")."""
        for other in repositories:
            words = urllib.parse.urlencode({"mount": digest, "from": other})
            try:
                with self._open("POST", f"blobs/uploads/?{words}", b"") as answer:
                    if answer.status == http.HTTPStatus.CREATED:
                        return None
                    self._give_up(self._location(answer.headers))
            except _StatusError:
                continue  # no such repository, or no right to read it
        with self._open("POST", "blobs/uploads/", b"") as answer:
            return self._location(answer.headers)

    def _give_up(self, place: str) -> None:
        """End an upload that a registry began because it could not mount."""
        try:
            with self._open("DELETE", place, again=False):
                pass
        except RemoteError:
            pass  # registries end those that nobody goes on with

    def _offset(self, place: str) -> tuple[str, int]:
        """Return where an upload goes on."""
        with self._open("GET", place) as answer:
            found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
            return self._location(answer.headers, place), int(found[1]) + 1 if found and found[1] != "0" else 0

    # --- requests -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: Mapping[str, str] = {},
        *,
        again: bool = True,
    ) -> Iterator[Any]:
        """Send a request; tokens, redirects and busy registries are dealt with. Raises ``RemoteError``."""
        address = path if "://" in path else f"{self._base}/v2/{self.name}/{path}"
        attempt, asked = 0, False
        while True:
            try:
                answer = self._once(method, address, data, headers)
                break
            except _StatusError as error:
                if error.code == 401 and not asked and self._authorize(error.headers):
                    asked = True
                elif error.code in _AGAIN and attempt + 1 < self._tries and again:
                    self._sleep(_wait(error.headers, attempt))
                    attempt, asked = attempt + 1, False  # a token may end meanwhile
                else:
                    raise
        with answer:
            try:
                yield answer
            except (OSError, http.client.HTTPException) as error:
                raise self._failed(error) from None

    def _once(self, method: str, address: str, data: bytes | None, headers: Mapping[str, str]) -> Any:
        for _ in range(_MOST_REDIRECTS + 1):
            sent = {"User-Agent": f"edgepack/{__version__}", **headers}
            if self._authorization and _origin(address) == self._base:
                sent["Authorization"] = self._authorization
            if data is not None:
                sent["Content-Length"] = str(len(data))
            body = Outgoing(data) if data else data
            try:
                request = urllib.request.Request(address, body, sent, method=method)
                return self._opener.open(request, timeout=TIMEOUT_S)
            except urllib.error.HTTPError as error:
                with error:
                    there = error.headers.get("Location")
                    if error.code in (301, 302, 303, 307, 308) and there and method in ("GET", "HEAD"):
                        address = self._allowed(address, there)
                        continue
                    raise self._refused(method, address, error) from None
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address, a token
                raise self._failed(error) from None
        raise RemoteError(f"{self.host} redirects more than {_MOST_REDIRECTS} times", hint="ask who runs the registry")

    def _location(self, headers: Message, before: str | None = None) -> str:
        there = headers.get("Location")
        if there is None:
            if before is None:
                raise RemoteError(f"{self.host} does not say where to send a file to")
            return before
        return self._allowed(f"{self._base}/v2/", there)

    def _allowed(self, address: str, there: str) -> str:
        """Return an address that a registry may send us to: never from TLS to plain HTTP, and no other scheme."""
        try:
            found = urllib.parse.urljoin(address, there)
            scheme = urllib.parse.urlsplit(found).scheme
        except ValueError:
            found, scheme = there, ""
        if scheme != "https" and not (scheme == "http" and self._base.startswith("http://")):
            raise RemoteError(f"{self.host} redirects to {found[:80]!r}, which is not safe")
        return found

    def _authorize(self, headers: Message) -> bool:
        """Get what a registry asks for; say whether there is anything to try again with."""
        asked = headers.get("WWW-Authenticate", "")
        before = self._authorization
        known = credentials.find(self.host)
        refresh = known[1] if known and known[0] == credentials.IDENTITY else None
        basic = f"Basic {base64.b64encode(':'.join(known).encode()).decode()}" if known and refresh is None else None
        if asked.lower().startswith("bearer "):
            self._authorization = self._token(dict(_PAIR.findall(asked)), basic, refresh)
        elif basic is not None:
            self._authorization = basic
        return self._authorization is not None and self._authorization != before

    def _token(self, asked: dict[str, str], basic: str | None, refresh: str | None) -> str | None:
        """Return a token of the service that a registry names: for a password, or by OAuth2 for an identity token."""
        realm = self._allowed("", asked.get("realm", ""))
        words: dict[str, str] = {name: asked[name] for name in ("service", "scope") if name in asked}
        headers, form = {"Authorization": basic} if basic else {}, None
        if refresh is not None:
            words |= {"grant_type": "refresh_token", "client_id": "edgepack", "refresh_token": refresh}
            form = urllib.parse.urlencode(words).encode()
        for attempt in range(self._tries):
            try:
                address = realm if form else f"{realm}?{urllib.parse.urlencode(words)}"
                request = urllib.request.Request(address, form, headers)
                with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                    said = read_json(b"".join(_pieces(answer, MANIFEST_LIMIT_BYTES)))
                return f"Bearer {said.get('token') or said['access_token']}"
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _AGAIN or attempt + 1 == self._tries:
                        raise self._refused("POST" if form else "GET", realm, error) from None
                    self._sleep(_wait(error.headers, attempt))
            except (OSError, ValueError, KeyError, AttributeError) as error:
                raise self._failed(error) from None
        raise AssertionError("the last try returns or raises")

    def _refused(self, method: str, address: str, error: urllib.error.HTTPError) -> _StatusError:
        try:
            said = str(read_json(error.read(10_000))["errors"][0]["message"])
        except (ValueError, KeyError, IndexError, TypeError, OSError, http.client.HTTPException):
            said = str(error.reason)
        what = urllib.parse.urlsplit(address).path
        hint = {
            401: f"log in to {self.host}, as with 'docker login'", 403: "ask for the right to this repository",
            404: "check the name and the tag",
        }.get(error.code)  # fmt: skip
        return _StatusError(
            error.code,
            error.headers,
            f"{self.host} answers {error.code} to {method} {what[:_MOST_WORDS]}: {shortened(said, _MOST_WORDS)}",
            hint,
        )

    def _failed(self, error: Exception) -> RemoteError:
        if isinstance(error, RemoteError):
            return error
        reason = getattr(error, "reason", None) or error
        return _LostError(
            f"{self.host} cannot be reached: {reason}", hint="check the network; run again: what came is kept"
        )


class _LostError(RemoteError):
    """The link was cut, or never there."""


class _StatusError(RemoteError):
    """A registry refused a request."""

    def __init__(self, code: int, headers: Message, message: str, hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.code, self.headers = code, headers


_CUT = (_LostError, _StatusError, OSError, http.client.HTTPException)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by the client itself, which knows where credentials may go."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing."""
        return


def _pieces(answer: Any, most: int) -> Iterator[bytes]:
    """Yield up to ``most`` bytes of an answer as they come. Raises ``ConnectionError`` for one that ends before."""
    came = 0
    while came < most and (piece := answer.read1(min(_CHUNK_BYTES, most - came))):
        came += len(piece)
        yield piece
    if came < most and answer.length:
        raise ConnectionError(f"it was cut off after {came} bytes")


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _own_size(place: Path) -> int:
    """Return how much of a file came before; what is a link, or has another name too, is not ours and is taken away."""
    try:
        status = place.lstat()
    except FileNotFoundError:
        return 0
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return status.st_size
    place.unlink()
    return 0


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := _read(file):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _read(file: IO[bytes]) -> bytes:
    return file.read(_CHUNK_BYTES)


def _origin(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _wait(headers: Mapping[str, str] | Message, attempt: int) -> float:
    """Return how long to wait: what the registry says, up to a minute, else longer each time."""
    said = headers.get("Retry-After", "")
    return min(float(said) if said.isdecimal() and len(said) < 6 else 2.0**attempt, _MOST_WAIT_S)


def _speaks_tls(reference: Reference) -> bool:
    """Say whether the registry on this machine answers a TLS handshake."""
    address = urllib.parse.urlsplit(f"https://{reference.host}")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only whether, nothing is sent
    connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=5, context=context)
    try:
        connection.connect()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
