"""Blobs from mirrors, and from the registry itself where none of them gives the right one.

A mirror is asked by digest alone, so it needs no trust: which manifest a tag names is the registry's own word. A
manifest that is named by its digest may come from a mirror too, and the registry itself need not be reached then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import ConfigError, IntegrityError, RemoteError
from edgepack.registry.client import Client
from edgepack.registry.reference import Reference, parse

_TRIES = 1  # of a mirror; the registry itself is tried as often as without mirrors


def mirrored(reference: Reference, place: str) -> Reference:
    """Return what ``reference`` is at a mirror, ``HOST`` or ``HOST/PREFIX``. Raises ``ConfigError``."""
    host, slash, prefix = place.rstrip("/").partition("/")
    found = parse(f"{host}/{prefix}{slash}{reference.name}") if not re.search("[@ ]", place) else None
    if not isinstance(found, Reference) or found.tag is not None or found.digest is not None:
        raise ConfigError(
            f"{place[:120]!r} is not a mirror", hint="write it like mirror.example.com, or mirror.example.com/prefix"
        )
    return Reference(found.host, found.name, None, reference.digest)


def client_of(reference: Reference, place: str) -> Client:
    """Return who asks a mirror, once."""
    return Client(mirrored(reference, place), tries=_TRIES)


class Origins:
    """A registry and its mirrors, which are asked first. ``used`` counts blobs by the host that gave them.

    A mirror that cannot be reached, or gives a wrong blob, is not asked again; one that lacks a blob is.
    """

    def __init__(self, registry: Client, mirrors: Sequence[Client]) -> None:
        self._registry, self._mirrors = registry, list(mirrors)
        self.used: dict[str, int] = {}

    def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """Return a manifest and its digest; from a mirror only where the reference has the digest.

        Raises ``RemoteError`` with the hint to give the digest where only a mirror could be asked.
        """
        if reference.digest is not None:
            for mirror in list(self._mirrors):
                try:
                    return mirror.manifest(reference.digest)
                except (RemoteError, IntegrityError) as error:
                    self._leave(mirror, error)
        try:
            return self._registry.manifest(reference.version)
        except RemoteError as error:
            if self._mirrors and reference.digest is None and not is_lacking(error):
                error.hint = f"with mirrors alone, give the digest: {reference}@sha256:..."
            raise

    def fetch(self, digest: str, size: int, place: Path) -> None:
        """Write a blob to ``place``, whole by size and digest. Raises what the registry itself answers with."""
        for mirror in list(self._mirrors):
            try:
                mirror.fetch(digest, size, place)
            except (RemoteError, IntegrityError) as error:
                self._leave(mirror, error)
            else:
                self._count(mirror)
                return
        self._registry.fetch(digest, size, place)
        self._count(self._registry)

    def _leave(self, mirror: Client, error: RemoteError | IntegrityError) -> None:
        if not (isinstance(error, RemoteError) and is_lacking(error)):
            self._mirrors.remove(mirror)

    def _count(self, client: Client) -> None:
        self.used[client.host] = self.used.get(client.host, 0) + 1


def is_lacking(error: RemoteError) -> bool:
    """Say whether a registry was reached and does not have what it was asked for."""
    return getattr(error, "code", None) == 404
